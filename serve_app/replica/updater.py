"""Keeps one pair's forecast up to date with the candle closes and with the promoted model."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from make_us_rich.core.errors import BadModel, MakeUsRichError
from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import Settings
from make_us_rich.market.candles import Candles
from make_us_rich.market.window import LiveWindow, Window, shared_bitcoin
from make_us_rich.registry.client import Registry, foundation_name, model_name
from serve_app.metrics import forecaster_metrics
from serve_app.replica.forecast import Current, Loaded
from serve_app.replica.forecast_log import ForecastLog
from serve_app.replica.model_cache import ModelCache, ModelKey
from serve_app.replica.refusal_alarm import tell_once
from serve_app.replica.snapshot import ForecastSnapshot

_log = logging.getLogger("ray.serve")

# After a close the exchange needs a moment, and not every replica should ask in the same one.
_AFTER_CLOSE_S = (0.5, 4.0)
_FIRST_RETRY_S = 2.0
_LONGEST_RETRY_S = 60.0
# Of their own, so that models are loaded and run while an exchange is slow for every pair of the process.
_MARKET_THREADS = ThreadPoolExecutor(16, thread_name_prefix="market")
# A replica that starts while the exchange is slow is deployed all the same, and not ready.
_FIRST_LOOK_S = 5.0


class ForecastUpdater:
    """`current` is the forecast to serve: None until the first, then always the newest that could be made."""

    def __init__(self, pair: Pair, settings: Settings, model_cache: ModelCache) -> None:
        self._pair = pair
        self._settings = settings
        self._name = model_name(pair, settings.interval)
        folder = Path(settings.cache_folder).expanduser()
        self._last_good = ForecastSnapshot(folder, pair, settings.interval, settings.market)
        self._model_cache = model_cache
        self.current: Current | None = None
        self._market = LiveWindow(pair, settings, shared_bitcoin(settings))
        self._forecast_log = ForecastLog(settings)
        self._metrics = forecaster_metrics()
        self.wanted: ModelKey | None = None
        self._refused: dict[ModelKey, str] = {}
        self._market_trouble = "starting"
        self._model_trouble = ""
        self._failures = 0
        self._advancing = asyncio.Lock()
        self._first_look = asyncio.Event()
        self._is_started = self._is_closed = False
        self._keeping_up: asyncio.Task[None] | None = None

    @property
    def candles(self) -> Candles | None:
        """The newest closed ones, with the market's gaps."""
        return self._market.candles

    @property
    def trouble(self) -> str:
        """What is in the way of an up-to-date forecast; empty when nothing is."""
        return "; ".join(filter(None, (self._market_trouble, self._model_trouble)))

    @property
    def refusal(self) -> str | None:
        """Why the wanted model does not serve, when it was fetched and failed its checks."""
        return self._refused.get(self.wanted) if self.wanted else None

    @property
    def waits_for_model(self) -> bool:
        """Another model should serve and could not be fetched yet."""
        serving = self.current.key if self.current else None
        return self.wanted != serving and self.refusal is None

    @property
    def _is_up_to_date(self) -> bool:
        """As a replica is that slept for a while since the last close."""
        due_ms = self._settings.interval.last_close_ms(time.time_ns() // 1_000_000)
        return not self.waits_for_model and self.current is not None and self.current.window.as_of_ms >= due_ms

    def close(self) -> None:
        self._is_closed = True
        if self._keeping_up is not None:
            self._keeping_up.cancel()

    async def want(self, key: ModelKey) -> None:
        """Take over a promoted model; the one before serves until that passed its checks."""
        if key == self.wanted:
            return
        self.wanted = key
        if self._is_started:
            await self._advance()
        else:
            self._is_started = True
            await self._start()

    async def _start(self) -> None:
        """From what an earlier process kept, if anything; else wait a moment for the exchange."""
        self.current = await asyncio.to_thread(self._last_good.load, self._model_cache)
        if self.current is not None:
            self._market.restore(self.current.window)
            await self._advance()
        if self._is_closed:
            return
        self._keeping_up = asyncio.create_task(self._keep_up())
        if self._is_up_to_date:
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._first_look.wait(), _FIRST_LOOK_S)

    async def look_now(self) -> None:
        """Ask for a newer candle and the wanted model now."""
        await self._look_at_market()
        await self._advance()

    async def _keep_up(self) -> None:
        while True:
            await self.look_now()
            self._first_look.set()
            await asyncio.sleep(self._pause_s())

    def _pause_s(self) -> float:
        if self._failures:
            return float(min(_FIRST_RETRY_S * 2 ** (self._failures - 1), _LONGEST_RETRY_S))
        now_ms = time.time_ns() // 1_000_000
        next_close_ms = self._settings.interval.last_close_ms(now_ms) + self._settings.interval.ms
        return (next_close_ms - now_ms) / 1000 + random.uniform(*_AFTER_CLOSE_S)

    async def _look_at_market(self) -> None:
        """Not under the lock: a new model is not kept waiting by a slow exchange."""
        try:
            now_ms = time.time_ns() // 1_000_000
            await asyncio.get_running_loop().run_in_executor(_MARKET_THREADS, self._market.refresh, now_ms)
        except MakeUsRichError as error:
            _log.warning("%s: no newer candles: %s", self._name, error)
            self._market_trouble = str(error)
        except Exception as error:  # the replica lives on, whatever the market brought
            _log.exception("%s: the market could not be read", self._name)
            self._market_trouble = repr(error)
        else:
            self._market_trouble = ""

    async def _advance(self) -> None:
        async with self._advancing:
            try:
                self._model_trouble = await asyncio.to_thread(self._try_to_advance)
            except Exception as error:  # as above
                _log.exception("%s: the forecast could not be brought up to date", self._name)
                self._model_trouble = repr(error)
        self._failures = self._failures + 1 if self.trouble else 0

    def _try_to_advance(self) -> str:
        """Make the forecast of the newest candle and the wanted model. Returns what is in the way, or nothing."""
        wanted, no_model = self._fetch_wanted()
        window = self._market.window
        no_forecast = self._forecast_with(wanted, window) if window is not None else ""
        no_record = self._forecast_log.record(self.current) if self.current is not None else ""
        return "; ".join(filter(None, (no_model, no_forecast, no_record)))

    def _fetch_wanted(self) -> tuple[Loaded | None, str]:
        key = self.wanted
        if key is None or key in self._refused:
            return None, ""
        if self.current is not None and self.current.key == key:
            return self.current.loaded, ""
        try:
            if key.name not in (self._name, foundation_name(self._settings.interval)):
                raise BadModel(f"{key.name} is another pair's model")
            with Registry(self._settings) as registry:
                version = registry.get(key.name, key.version)
                graph = registry.download(version)
            if ModelKey(version.name, version.version, version.run_id) != key:
                return None, f"the registry's version {key.version} is not the one that was promoted"
            self._model_cache.take(key, graph)  # loads, or is refused here and now
            return Loaded(version, graph, self._model_cache), ""
        except BadModel as error:
            self._refuse(key, error)
            return None, ""
        except MakeUsRichError as error:
            _log.warning("%s: version %d of %s cannot be fetched: %s", self._name, key.version, key.name, error)
            return None, str(error)

    def _forecast_with(self, wanted: Loaded | None, window: Window) -> str:
        """By the wanted model, or else by the one that serves. Returns why there is no forecast of this window."""
        serving = self.current.loaded if self.current else None
        trouble = ""
        for loaded in dict.fromkeys(filter(None, (wanted, serving))):
            if self.current and self.current.loaded is loaded and self.current.window is window:
                return ""
            started = time.perf_counter()
            try:
                current = Current.compute(self._pair, loaded, window)
            except BadModel as error:
                if loaded is not serving:
                    self._refuse(loaded.key, error)
                trouble = str(error)
            except MakeUsRichError as error:
                trouble = str(error)
            else:
                self._metrics.forecast_made(current, time.perf_counter() - started, swapped=loaded is not serving)
                # One reference: every answer is of the old forecast or of the new one.
                self.current = current
                self._last_good.save(current)
                return ""
        return trouble

    def _refuse(self, key: ModelKey, error: BadModel) -> None:
        """For good: another attempt would load the same file."""
        self._refused[key] = str(error)
        self._metrics.model_refused(str(self._pair))
        version = self.current.version if self.current else None
        tell_once(key, str(self._pair), str(error), version, self._settings)
        serving = f"version {version.version} of {version.name} serves on" if version else "nothing serves"
        _log.error("%s: version %d of %s is refused, %s: %s", self._name, key.version, key.name, serving, error)
