"""The replicas: of one series, and of a pool of them. They answer the gateway from what the updaters have in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from typing import Literal, TypedDict

import numpy as np

from make_us_rich.core.errors import BadCandles, BadModel, InputError
from make_us_rich.core.pair import BITCOIN, Series
from make_us_rich.core.settings import Settings
from make_us_rich.core.times import current_ms, utc_text
from make_us_rich.documents import CandleColumns, Document, Forecast, Model, PairState, ReplicaError
from make_us_rich.market.candles import Candles
from make_us_rich.market.window import Window
from make_us_rich.registry.client import CHAMPION
from serve_app.replica.compared_models import ComparedModels
from serve_app.replica.forecast import ComputedForecast
from serve_app.replica.models import ModelCache, ModelKey
from serve_app.replica.updater import ForecastUpdater

_SWAP_WITHIN_S = 8.0  # shorter than the gateway waits for an answer


class WantedModel(TypedDict):
    """The user_config of a series, as `make_us_rich/pipeline/deployment.py` writes it: a ModelKey as JSON."""

    name: str
    version: int
    run_id: str


class Forecaster:
    """Serves one series. Ray Serve calls `reconfigure`, the gateway all other methods.

    They return documents: a ReplicaError where there is no answer.
    """

    def __init__(self, series: Series, settings: Settings, model_cache: ModelCache) -> None:
        self._series = series
        self._settings = settings
        self._updater = ForecastUpdater(series, settings, model_cache)
        self._compared = ComparedModels(series, settings, model_cache)
        self._swap: asyncio.Task[None] | None = None

    async def reconfigure(self, user_config: WantedModel) -> None:
        """Swap to the model of the user_config, and wait for it when it is the first one only.

        Ray Serve sends no calls to a replica whose `reconfigure` has not returned.
        """
        is_first = self._swap is None
        self._swap = asyncio.create_task(self._updater.serve_model(ModelKey(**user_config)))
        if is_first:
            await self._swap

    def close(self) -> None:
        """Stop updating the forecast."""
        self._updater.close()

    async def refresh(self) -> PairState:
        """Fetch the newest candles now, and wait some seconds for a model that is being fetched."""
        await self._updater.refresh()
        if self._swap is not None:
            await asyncio.wait([self._swap], timeout=_SWAP_WITHIN_S)
        return await self.state()

    async def state(self) -> PairState:
        """Return what the pair serves, and why it does not serve what it should."""
        current, wanted = self._updater.current, self._updater.models.wanted
        refusal = (self._past(current) or current.refusal(self._settings, now_ms=current_ms())) if current else ""
        return PairState(
            ready=current is not None and not refusal,
            asleep=False,
            serves=current.model.key.named if current else None,
            wanted=wanted.named if wanted else None,
            refused=self._updater.models.refusal,
            as_of_ms=current.window.as_of_ms if current else None,
            reason=refusal or self._updater.problem or None,
        )

    async def forecast(self, model: str = CHAMPION) -> Forecast | ReplicaError:
        """Return the serving model's forecast, or that of a model to compare with: see compared_models.py."""
        current = self._updater.current
        window = self._updater.market.window
        if model != CHAMPION and window is not None:
            return await self._compared.forecast(model, window, current_ms())
        if current is None:
            return self._not_ready()
        if past := self._past(current):
            return ReplicaError(kind="not-ready", detail=past)
        return current.answer(self._settings, now_ms=current_ms(), model_is_late=self._updater.waits_for_model)

    def _past(self, current: ComputedForecast) -> str:
        """Return what to say of a forecast whose closes are all past; empty for any other."""
        if not current.is_past(current_ms()):
            return ""
        detail = (
            f"there is no forecast of candles after {utc_text(current.window.as_of_ms)}, and what that forecast is past"
        )
        return ": ".join(filter(None, (detail, self._updater.problem)))

    async def forecast_from(self, candles: Candles, reference: Candles | None) -> Forecast | ReplicaError:
        """Forecast from the caller's own candles; `reference` is BTC of the same times, the market's when None."""
        current = self._updater.current
        if current is None:
            return self._not_ready()
        try:
            window = self._own_window(candles, reference, current.window)
            compute = partial(ComputedForecast.compute, strictly=True)
            own = await asyncio.to_thread(compute, self._series.pair, current.model, window)
        except InputError as error:
            return ReplicaError(kind="bad-input", detail=str(error), field=error.field)
        except BadModel as error:
            detail = f"the model can make no forecast of these candles: {error}"
            return ReplicaError(kind="bad-input", detail=detail, field="candles")
        document = own.answer(self._settings, now_ms=current_ms())
        if isinstance(document, ReplicaError):
            return document
        flags = document.flags.model_copy(update={"stale": False})
        return document.model_copy(update={"market": "own", "flags": flags})

    def _own_window(self, candles: Candles, reference: Candles | None, market: Window) -> Window:
        if self._series.pair == BITCOIN:
            return Window(candles, candles, market.interval)
        bitcoin = market.reference if reference is None else reference
        bitcoin = bitcoin[np.isin(bitcoin.open_time_ms, candles.open_time_ms)]
        if len(bitcoin) != len(candles):
            raise BadCandles(
                f"{BITCOIN}'s candles of the same open times are needed: send them as `reference`", field="reference"
            )
        return Window(candles, bitcoin, market.interval)

    async def candles(self, limit: int) -> CandleColumns | ReplicaError:
        """Return the newest closed candles."""
        candles = self._updater.market.candles
        if candles is None:
            return self._not_ready()
        newest = candles[-limit:]
        return CandleColumns(
            pair=self._series.pair,
            interval=self._series.interval,
            market=self._settings.market,
            simulated=self._settings.market == "simulated",
            **{column.name: getattr(newest, column.name).tolist() for column in fields(newest)},
        )

    async def model(self) -> Model | ReplicaError:
        """Return the model that serves."""
        current = self._updater.current
        return current.model.version.describe(current_ms()) if current else self._not_ready()

    def _not_ready(self) -> ReplicaError:
        detail = self._updater.problem or self._updater.models.refusal or "starting"
        return ReplicaError(kind="not-ready", detail=detail)


class Pool:
    """Many rarely requested series in one replica: a process costs 150 MiB, a series one, with its model three.

    It has a forecaster for each, called by the name that its own application would have, such as btc_usdt_1h.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._model_cache = ModelCache(settings.loaded_models)
        self._forecasters: dict[str, Forecaster] = {}
        self._swaps: asyncio.Future[list[None]] | None = None

    async def reconfigure(self, user_config: Mapping[str, WantedModel]) -> None:
        """Add and remove series, and swap to their models; `user_config` is by the name of the series.

        Waits for the first ones only, as a forecaster does.
        """
        for name in self._forecasters.keys() - user_config.keys():
            self._forecasters.pop(name).close()
        for name in user_config.keys() - self._forecasters.keys():
            self._forecasters[name] = Forecaster(Series.parse(name), self._settings, self._model_cache)
        is_first = self._swaps is None
        self._swaps = asyncio.gather(
            *(self._forecasters[name].reconfigure(model) for name, model in user_config.items())
        )
        if is_first:
            await self._swaps

    async def names(self) -> list[str]:
        """Return the names of the pooled series."""
        return sorted(self._forecasters)

    async def call(self, name: str, method: str, *arguments: object) -> Document:
        """Call one method of the forecaster of a series."""
        if name not in self._forecasters:
            return ReplicaError(kind="not-ready", detail="it has just left the pool")
        document: Document = await getattr(self._forecasters[name], method)(*arguments)
        return document

    async def states(self, method: Literal["state", "refresh"]) -> dict[str, PairState]:
        """Return the state of every series, by name; `refresh` fetches the newest candles first."""
        forecasters = dict(self._forecasters)
        states = await asyncio.gather(*(getattr(each, method)() for each in forecasters.values()))
        return dict(zip(forecasters, states, strict=True))
