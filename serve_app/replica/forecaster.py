"""One pair's replica: answers from what its keeper has in memory."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np

from make_us_rich.core.errors import BadCandles, BadModel, InputError
from make_us_rich.core.interval import HOUR_MS
from make_us_rich.core.pair import BITCOIN, Pair
from make_us_rich.core.settings import Settings
from make_us_rich.market.window import Window
from make_us_rich.registry.client import CHAMPION
from serve_app.api.own_candles import read_columns
from serve_app.replica.compared_models import OtherModels
from serve_app.replica.forecast import Current, forecast_document, model_as_of_ms, model_facts
from serve_app.replica.model_cache import ModelCache, ModelKey
from serve_app.replica.updater import ForecastUpdater


class Forecaster:
    """Ray Serve calls `reconfigure`, then the gateway the rest.

    Answers are JSON documents, never exceptions: those lose their type on the way between processes. What cannot be
    answered yet is {"reason": why}, what there is not {"missing": what}, and a mistake in the call {"error": what,
    "field": where}.
    """

    def __init__(self, pair: Pair, settings: Settings, model_cache: ModelCache) -> None:
        self._pair = pair
        self._settings = settings
        self._updater = ForecastUpdater(pair, settings, model_cache)
        self._others = OtherModels(pair, settings, model_cache)

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        await self._updater.want(ModelKey(**user_config))

    def close(self) -> None:
        self._updater.close()

    async def refresh(self) -> dict[str, Any]:
        await self._updater.look_now()
        return await self.status()

    async def status(self) -> dict[str, Any]:
        """`serves` is the model that answers, `refused` why the wanted one does not, `reason` what is in the way."""
        current, wanted = self._updater.current, self._updater.wanted
        return {
            "ready": current is not None,
            "asleep": False,
            "serves": _named(current.key) if current else None,
            "wanted": _named(wanted) if wanted else None,
            "refused": self._updater.refusal,
            "as_of_ms": current.window.as_of_ms if current else None,
            "reason": self._updater.trouble or None,
        }

    async def forecast(self, model: str = CHAMPION) -> dict[str, Any]:
        """By the model that serves, or by one to hold beside it: see other_models.py."""
        current = self._updater.current
        if current is None:
            return self._nothing_yet()
        if model != CHAMPION:
            return await asyncio.to_thread(self._others.forecast, model, current.window, _now_ms())
        too_old = self._too_old(current)
        if too_old:
            return {"reason": too_old}
        waiting = self._updater.waits_for_model
        return forecast_document(current, self._settings, now_ms=_now_ms(), waiting=waiting)

    async def forecast_from(
        self, candles: dict[str, list[Any]], reference: dict[str, list[Any]] | None
    ) -> dict[str, Any]:
        """From the caller's own candles; `reference` is BTC's of the same times, the market's when None."""
        current = self._updater.current
        if current is None:
            return self._nothing_yet()
        try:
            window = self._own_window(candles, reference, current.window)
            own = await asyncio.to_thread(Current.compute, self._pair, current.loaded, window)
        except InputError as error:
            return {"error": str(error), "field": error.field}
        except BadModel as error:
            return {"error": f"the model can make no forecast of these candles: {error}", "field": "candles"}
        document = forecast_document(own, self._settings, now_ms=_now_ms())
        return document | {"market": "own", "flags": document["flags"] | {"stale": False}}

    def _own_window(
        self, columns: dict[str, list[Any]], reference: dict[str, list[Any]] | None, market: Window
    ) -> Window:
        interval = self._settings.interval
        candles = read_columns(columns, interval, "candles")
        if self._pair == BITCOIN:
            return Window(candles, candles, interval)
        bitcoin = read_columns(reference, interval, "reference") if reference else market.reference
        bitcoin = bitcoin[np.isin(bitcoin.open_time_ms, candles.open_time_ms)]
        if len(bitcoin) != len(candles):
            raise BadCandles(
                f"{BITCOIN}'s candles of the same open times are needed: send them as `reference`", field="reference"
            )
        return Window(candles, bitcoin, interval)

    async def candles(self, limit: int) -> dict[str, Any]:
        """The newest closed candles as columns, oldest first."""
        candles = self._updater.candles
        if candles is None:
            return self._nothing_yet()
        tail = candles[-limit:]
        return {
            "pair": str(self._pair),
            "interval": self._settings.interval,
            "market": self._settings.market,
            "simulated": self._settings.market == "simulated",
            "open_time_ms": tail.open_time_ms.tolist(),
            "open": tail.open.tolist(),
            "high": tail.high.tolist(),
            "low": tail.low.tolist(),
            "close": tail.close.tolist(),
            "volume": tail.volume.tolist(),
        }

    async def model(self) -> dict[str, Any]:
        current = self._updater.current
        return model_facts(current.version, _now_ms()) if current else self._nothing_yet()

    def _too_old(self, current: Current) -> str:
        """Past its expiry a model serves with a warning, past twice that not at all."""
        age_hours = (_now_ms() - model_as_of_ms(current.version)) / HOUR_MS
        if age_hours <= 2 * self._settings.model_expiry_hours:
            return ""
        return f"its model has seen nothing for {age_hours:.0f} hours: it waits for a new one"

    def _nothing_yet(self) -> dict[str, Any]:
        return {"reason": self._updater.trouble or self._updater.refusal or "starting"}


def _named(key: ModelKey) -> dict[str, Any]:
    return {"name": key.name, "version": key.version}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
