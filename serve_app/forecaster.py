"""One pair's replica: keeps up with the candle closes and the champion, and answers from memory."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from pathlib import Path
from typing import Any

import numpy as np

from make_us_rich.errors import BadCandles, BadModel, InputError, MakeUsRichError
from make_us_rich.intervals import interval_ms, last_close_ms
from make_us_rich.pairs import BITCOIN, Pair
from make_us_rich.registry import Registry, model_name
from make_us_rich.settings import Settings
from serve_app.current import Current, Loaded, ModelKey, Window, forecast_document, model_facts
from serve_app.forecast_log import ForecastLog
from serve_app.last_good import LastGood
from serve_app.market_window import MarketWindow
from serve_app.model import OnnxModel
from serve_app.own_candles import read_columns

_log = logging.getLogger("ray.serve")

# After a close the exchange needs a moment, and not every replica should ask in the same one.
_AFTER_CLOSE_S = (0.5, 4.0)
_FIRST_RETRY_S = 2.0
_LONGEST_RETRY_S = 60.0


class Forecaster:
    """Ray Serve calls `reconfigure`, then the gateway the rest.

    Answers are JSON documents, never exceptions: those lose their type on the way between processes. What cannot be
    answered yet is {"reason": why}.
    """

    def __init__(self, pair: Pair, settings: Settings) -> None:
        self._pair = pair
        self._settings = settings
        self._name = model_name(pair, settings.interval)
        self._last_good = LastGood(
            Path(settings.cache_folder).expanduser(), pair, settings.interval, settings.market
        )
        self._current = self._last_good.load()
        self._market = MarketWindow(pair, settings, self._current and self._current.window)
        self._forecast_log = ForecastLog(settings)
        self._wanted: ModelKey | None = None
        self._refused: dict[ModelKey, str] = {}
        self._reason = "starting"
        self._failures = 0
        self._advancing = asyncio.Lock()
        self._keeping_up: asyncio.Task[None] | None = None

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Take over the champion that `user_config` names; the one before serves until that passed its checks."""
        self._wanted = ModelKey(**user_config)
        await self._advance()
        if self._keeping_up is None:
            self._keeping_up = asyncio.create_task(self._keep_up())

    async def refresh(self) -> dict[str, Any]:
        """Look for a newer candle and the wanted version now."""
        await self._advance()
        return await self.status()

    async def forecast(self) -> dict[str, Any]:
        if self._current is None:
            return {"reason": self._reason}
        now_ms = _now_ms()
        return forecast_document(
            self._current, self._settings, now_ms=now_ms, waiting=self._waits_for_model()
        )

    async def forecast_from(
        self, candles: dict[str, list[Any]], reference: dict[str, list[Any]] | None
    ) -> dict[str, Any]:
        """A forecast from the caller's own candles, or {"error": what is wrong, "field": with which input}."""
        current = self._current
        if current is None:
            return {"reason": self._reason}
        try:
            own = self._own_window(candles, reference, current.window)
            forecast = await asyncio.to_thread(Current.compute, self._pair, current.loaded, own)
        except InputError as error:
            return {"error": str(error), "field": error.field}
        except BadModel as error:
            return {"error": f"the model can make no forecast of these candles: {error}", "field": "candles"}
        document = forecast_document(forecast, self._settings, now_ms=_now_ms(), waiting=False)
        return document | {"market": "own", "flags": document["flags"] | {"stale": False}}

    def _own_window(
        self, columns: dict[str, list[Any]], reference: dict[str, list[Any]] | None, market: Window
    ) -> Window:
        interval = self._settings.interval
        candles = read_columns(columns, interval, "candles")
        if self._pair == BITCOIN:
            return Window(candles, candles, interval)
        if reference is not None:
            bitcoin = read_columns(reference, interval, "reference")
        else:
            bitcoin = market.reference
        bitcoin = bitcoin[np.isin(bitcoin.open_time_ms, candles.open_time_ms)]
        if len(bitcoin) != len(candles):
            raise BadCandles(
                f"{BITCOIN}'s candles of the same open times are needed: send them as `reference`",
                field="reference",
            )
        return Window(candles, bitcoin, interval)

    async def candles(self, limit: int) -> dict[str, Any]:
        """The newest closed candles as columns, oldest first."""
        window = self._market.window
        if window is None:
            return {"reason": self._reason}
        tail = window.candles[-limit:]
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
        if self._current is None:
            return {"reason": self._reason}
        return model_facts(self._current.version, _now_ms())

    async def status(self) -> dict[str, Any]:
        """`version` is what serves, `refused` why the wanted one does not, `reason` what holds the replica up."""
        return {
            "ready": self._current is not None,
            "version": self._current.version.version if self._current else None,
            "wanted": self._wanted.version if self._wanted else None,
            "refused": self._refused.get(self._wanted) if self._wanted else None,
            "as_of_ms": self._current.window.as_of_ms if self._current else None,
            "reason": self._reason or None,
        }

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(self._pause_s())
            await self._advance()

    def _pause_s(self) -> float:
        if self._failures:
            return float(min(_FIRST_RETRY_S * 2 ** (self._failures - 1), _LONGEST_RETRY_S))
        now_ms = _now_ms()
        next_close_ms = last_close_ms(now_ms, self._settings.interval) + interval_ms(self._settings.interval)
        return (next_close_ms - now_ms) / 1000 + random.uniform(*_AFTER_CLOSE_S)

    async def _advance(self) -> None:
        async with self._advancing:
            try:
                self._reason = await asyncio.to_thread(self._try_to_advance)
            except Exception as error:  # the replica lives on whatever this attempt met
                _log.exception("%s: the forecast could not be brought up to date", self._name)
                self._reason = str(error)
            self._failures = self._failures + 1 if self._reason else 0

    def _try_to_advance(self) -> str:
        """Make the forecast of the newest candle and the wanted model. Returns what is in the way, or nothing."""
        troubles = []
        window, trouble = self._newest_window()
        troubles.append(trouble)
        wanted, trouble = self._wanted_model()
        troubles.append(trouble)
        if window is not None:
            troubles.append(self._forecast_with(wanted, window))
        if self._current is not None:
            troubles.append(self._forecast_log.record(self._current))
        return "; ".join(filter(None, troubles))

    def _newest_window(self) -> tuple[Window | None, str]:
        try:
            return self._market.refresh(_now_ms()), ""
        except MakeUsRichError as error:
            _log.warning("%s: no newer candles: %s", self._name, error)
            return self._market.window, str(error)

    def _wanted_model(self) -> tuple[Loaded | None, str]:
        key = self._wanted
        if key is None or key in self._refused:
            return None, ""
        if self._current is not None and self._current.key == key:
            return self._current.loaded, ""
        try:
            with Registry(self._settings.mlflow_url) as registry:
                version = registry.get(self._name, key.version)
                graph = registry.download(version)
            if ModelKey(version.version, version.run_id) != key:
                return None, f"the registry's version {key.version} is not the one that was promoted"
            return Loaded(version, graph, OnnxModel.load(graph, self._pair, self._settings.interval)), ""
        except BadModel as error:
            self._refuse(key, error)
            return None, ""
        except MakeUsRichError as error:
            _log.warning("%s: version %d cannot be fetched: %s", self._name, key.version, error)
            return None, str(error)

    def _forecast_with(self, wanted: Loaded | None, window: Window) -> str:
        serving = self._current.loaded if self._current else None
        trouble = ""
        for loaded in dict.fromkeys(filter(None, (wanted, serving))):
            if self._current and self._current.loaded is loaded and self._current.window is window:
                return ""
            try:
                current = Current.compute(self._pair, loaded, window)
            except BadModel as error:
                if loaded is wanted and loaded is not serving:
                    self._refuse(loaded.key, error)
                else:
                    trouble = str(error)
            except MakeUsRichError as error:
                trouble = str(error)
            else:
                # One reference: every answer is of the old forecast or of the new one.
                self._current = current
                self._last_good.save(current)
                return ""
        return trouble

    def _refuse(self, key: ModelKey, error: BadModel) -> None:
        """Refused for good: another attempt would load the same file."""
        self._refused[key] = str(error)
        serving = f"version {self._current.version.version} serves on" if self._current else "nothing serves"
        _log.error("%s: version %d is refused, %s: %s", self._name, key.version, serving, error)

    def _waits_for_model(self) -> bool:
        return (
            self._current is not None
            and self._wanted not in (None, self._current.key)
            and self._wanted not in self._refused
        )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
