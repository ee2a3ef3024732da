"""Keeps the forecast of one series up to date with the candle closes and with the promoted model."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

from make_us_rich.core.errors import BadModel, MakeUsRichError
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import BITCOIN, Pair, Series
from make_us_rich.core.settings import Settings
from make_us_rich.core.times import current_ms
from make_us_rich.database import forecasts
from make_us_rich.database.pool import POSTGRES_UNAVAILABLE, shared_database
from make_us_rich.market.candles import Candles
from make_us_rich.market.stream import shared_stream
from make_us_rich.market.window import LiveWindow, Window, shared_bitcoin
from serve_app.metrics import GAUGES_EVERY_S, replica_metrics
from serve_app.replica.forecast import ComputedForecast, ForecastSnapshot
from serve_app.replica.models import LoadedModel, ModelCache, ModelKey, ModelLoader

_log = logging.getLogger("ray.serve")

# Spreads the replicas' requests after a close. The exchange needs a moment to publish the candle.
_DELAY_AFTER_CLOSE_S = (0.5, 4.0)
# With a stream: how long to wait for the pushed candle before a request.
_DELAY_BEHIND_STREAM_S = (2.5, 6.0)
# When the candle is requested once more, because the exchange may have revised it.
_CHECK_AFTER_CLOSE_S = (60.0, 180.0)
_FIRST_RETRY_S = 2.0
_LONGEST_RETRY_S = 60.0
# How long a starting replica waits for its first forecast. After it, Serve deploys the replica, which is not ready yet.
_FIRST_UPDATE_WITHIN_S = 5.0
# An executor of its own: a slow exchange must not block the loading and running of models.
_MARKET_THREADS = ThreadPoolExecutor(16, thread_name_prefix="market")
# Another one: an unresponsive MLflow must not block forecasts.
_LOADING_THREADS = ThreadPoolExecutor(8, thread_name_prefix="loading")
# One thread: at a close, all pairs' forecasts are computed before the first one is recorded and saved.
_KEEPING_THREAD = ThreadPoolExecutor(1, thread_name_prefix="keeping")


class ForecastUpdater:
    """`current` is the forecast to serve: None until the first one, then always the newest that could be computed."""

    def __init__(self, series: Series, settings: Settings, model_cache: ModelCache) -> None:
        self._series = series
        self._settings = settings
        self._model_cache = model_cache
        folder = Path(settings.cache_folder).expanduser()
        self._snapshot = ForecastSnapshot(folder, series, settings.market)
        self.current: ComputedForecast | None = None
        self.market = LiveWindow(series, settings, shared_bitcoin(series.interval, settings))
        self.models = ModelLoader(series, settings, model_cache)
        self._metrics = replica_metrics()
        self._candidate: LoadedModel | None = None  # the wanted model, from when it was fetched
        self._saved: ComputedForecast | None = None
        self._recorded: ComputedForecast | None = None
        self._market_problem, self._load_problem, self._forecast_problem, self._record_problem = "starting", "", "", ""
        self._failures = 0
        self._updating = asyncio.Lock()
        self._first_refresh, self._first_load = asyncio.Event(), asyncio.Event()
        self._is_started = self._is_closed = False
        self._tasks: list[asyncio.Task[None]] = []
        url = settings.exchange_stream_url
        self._stream = shared_stream(url) if url else None
        self._candle_arrived, self._load_now = asyncio.Event(), asyncio.Event()
        self._unsubscribe: list[Callable[[], None]] = []

    @property
    def problem(self) -> str:
        """Why the forecast is not up to date; empty when it is."""
        return _joined(self._market_problem, self._load_problem, self._forecast_problem, self._record_problem)

    @property
    def waits_for_model(self) -> bool:
        """True while the wanted model could not be fetched yet."""
        serving = self.current.model.key if self.current else None
        return self.models.wanted != serving and self.models.refusal is None

    @property
    def _is_up_to_date(self) -> bool:
        """True when the forecast is of the newest close and by the wanted model, as after a start from a snapshot."""
        newest_close_ms = self._series.interval.last_close_ms(current_ms())
        return not self.waits_for_model and self.current is not None and self.current.window.as_of_ms >= newest_close_ms

    def close(self) -> None:
        """Stop updating."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        while self._unsubscribe:
            self._unsubscribe.pop()()

    async def serve_model(self, key: ModelKey) -> None:
        """Swap to a promoted model once it passed its checks; the one before serves until then."""
        if key == self.models.wanted:
            return
        self.models.wanted = key
        if self._is_started:
            await self._swap(key)
        else:
            self._is_started = True
            await self._start(key)

    async def _start(self, key: ModelKey) -> None:
        """Start from the snapshot of an earlier process if there is one, else wait a moment for model and candles."""
        self.current = self._saved = await asyncio.to_thread(self._snapshot.load, self._model_cache)
        if self.current is not None:
            self.market.restore(self.current.window)
        if self._is_closed:
            return
        self._subscribe()
        work = self._swap(key), self._update_after_each_close(), self._check_after_each_close(), self._report()
        self._tasks = [asyncio.create_task(each) for each in work]
        with suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_UPDATE_WITHIN_S):
                for step in (self._first_load, self._first_refresh):
                    if not self._is_up_to_date:
                        await step.wait()

    async def _swap(self, key: ModelKey) -> None:
        """Fetch the wanted model and serve it; retry with exponential backoff while it cannot be fetched."""
        failures = 0
        while not self._is_closed:
            problem = await self._load()
            if key != self.models.wanted:
                return
            self._load_problem = problem
            self._first_load.set()
            if not problem:
                return
            failures += 1
            self._load_now.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._load_now.wait(), backoff_s(failures))

    async def _load(self) -> str:
        """Fetch the wanted model and forecast by it. Returns why it cannot be fetched, else nothing."""
        serving = self.current.model if self.current else None
        try:
            loaded = await asyncio.get_running_loop().run_in_executor(_LOADING_THREADS, self.models.load, serving)
        except MakeUsRichError as error:
            _log.warning("%s: the model %s cannot be fetched: %s", self._series.name, self.models.wanted, error)
            return str(error)
        except Exception as error:  # whatever MLflow sent, the replica keeps serving
            _log.exception("%s: the model %s cannot be read", self._series.name, self.models.wanted)
            return repr(error)
        if loaded is not None:
            self._candidate = loaded
            await self._update()
        return ""

    def _subscribe(self) -> None:
        """Have the exchange push the candles of the series and of BTC."""
        if self._stream is not None:
            for pair in {self._series.pair, BITCOIN}:
                series = Series(pair, self._series.interval)
                self._unsubscribe.append(self._stream.subscribe(series, partial(self._take_candle, pair)))

    def _take_candle(self, pair: Pair, candle: Candles) -> None:
        close_ms = self.market.add(pair, candle)
        if close_ms is not None:
            early_s = (close_ms - current_ms()) / 1000  # our clock may be behind the exchange's
            asyncio.get_running_loop().call_later(max(0.0, early_s), self._candle_arrived.set)

    async def refresh(self) -> None:
        """Fetch newer candles now and forecast from them; try again to fetch a model that is missing."""
        self._load_now.set()
        self._market_problem = await self._refresh_market()  # outside the lock: a new model need not wait for it
        await self._update()

    async def _refresh_market(self) -> str:
        """Fetch the candles that closed since the last refresh. Returns why they are missing; empty when none is."""
        try:
            now_ms = current_ms()
            await asyncio.get_running_loop().run_in_executor(_MARKET_THREADS, self.market.refresh, now_ms)
        except MakeUsRichError as error:
            _log.warning("%s: no newer candles: %s", self._series.name, error)
            return str(error)
        except Exception as error:  # whatever the exchange sent, the replica keeps serving
            _log.exception("%s: the newest candles cannot be read", self._series.name)
            return repr(error)
        return ""

    async def _update_after_each_close(self) -> None:
        while True:
            await self.refresh()
            self._first_refresh.set()
            problem = _joined(self._market_problem, self._forecast_problem, self._record_problem)
            self._failures = self._failures + 1 if problem else 0
            with suppress(TimeoutError):
                await asyncio.wait_for(self._candle_arrived.wait(), self._pause_s())
            self._candle_arrived.clear()

    async def _check_after_each_close(self) -> None:
        """Fetch the newest candle once more after each close, and forecast again if the exchange revised it."""
        while True:
            delay_s = random.uniform(*_CHECK_AFTER_CLOSE_S)
            await asyncio.sleep(pause_s(self._series.interval, current_ms(), failures=0, delay_s=delay_s))
            await self.check()

    async def check(self) -> None:
        """Fetch the newest candle once more; forecast again if it changed."""
        try:
            now_ms = current_ms()
            changed = await asyncio.get_running_loop().run_in_executor(_MARKET_THREADS, self.market.check, now_ms)
        except Exception as error:  # the next close fetches it too
            _log.warning("%s: the newest candle cannot be checked: %r", self._series.name, error)
        else:
            if changed:
                await self._update()

    async def _report(self) -> None:
        """Report the gauges of the served forecast periodically: alarms watch its age."""
        while True:
            if (forecast := self.current) is not None:
                self._metrics.forecast_served(
                    self._series,
                    as_of_ms=forecast.window.as_of_ms,
                    model_as_of_ms=forecast.model.version.as_of_ms,
                    models_loaded=len(self._model_cache),
                )
            await asyncio.sleep(GAUGES_EVERY_S)

    def _pause_s(self) -> float:
        is_pushed = self._stream is not None and self._stream.is_connected
        delay_s = random.uniform(*(_DELAY_BEHIND_STREAM_S if is_pushed else _DELAY_AFTER_CLOSE_S))
        return pause_s(self._series.interval, current_ms(), failures=self._failures, delay_s=delay_s)

    async def _update(self) -> None:
        await self._update_forecast()
        try:  # outside the lock: a new model need not wait for Postgres
            self._record_problem = await asyncio.get_running_loop().run_in_executor(_KEEPING_THREAD, self._keep)
        except Exception as error:
            _log.exception("%s: the forecast cannot be recorded", self._series.name)
            self._record_problem = repr(error)

    async def _update_forecast(self) -> None:
        async with self._updating:
            try:
                self._forecast_problem = await asyncio.to_thread(self._forecast)
            except Exception as error:  # whatever failed, the replica keeps serving
                _log.exception("%s: the forecast cannot be updated", self._series.name)
                self._forecast_problem = repr(error)

    def _forecast(self) -> str:
        """Forecast by the serving model, then by a wanted one that waits. Returns what failed, else nothing."""
        window, candidate = self.market.window, self._candidate
        if window is None:
            return ""
        serving = self.current.model if self.current else None
        problem = ""
        if serving is not None:
            try:
                self._compute(serving, serving, window)
            except MakeUsRichError as error:
                problem = str(error)
        if candidate is None or candidate is serving or candidate.key != self.models.wanted:
            return problem
        try:
            self._compute(candidate, serving, window)
        except BadModel as error:
            if problem:  # these candles may be at fault, because neither model can use them
                return str(error)
            self.models.refuse(candidate.key, error, serving)
            if serving is not None:
                self._candidate = None
        except MakeUsRichError as error:
            return str(error)
        else:
            self.models.admit(candidate.key)
        return ""

    def _keep(self) -> str:
        """Save and record the forecast that is served. Returns what failed; empty when nothing."""
        forecast = self.current
        if forecast is None:
            return ""
        if forecast is not self._saved:
            self._snapshot.save(forecast)
            self._saved = forecast
        return self._record(forecast)

    def _compute(self, model: LoadedModel, serving: LoadedModel | None, window: Window) -> None:
        """Serve the forecast of a window by a model. Raises BadModel, NotEnoughHistory."""
        if self.current and self.current.model is model and self.current.window is window:
            return
        started = time.perf_counter()
        forecast = ComputedForecast.compute(self._series.pair, model, window)
        self.current = forecast  # one assignment: a reader sees the old forecast or the new one
        if serving is not None and model is not serving:
            self._model_cache.discard(serving.key)
        seconds = time.perf_counter() - started
        self._metrics.forecast_computed(self._series, seconds, swapped=model is not serving)

    def _record(self, forecast: ComputedForecast) -> str:
        """Record a forecast in Postgres, once, to be scored later. Returns why to try again, else nothing."""
        if forecast is self._recorded:
            return ""
        try:
            # Open only while pairs of this process record: hundreds of replicas must not hold a connection each.
            with shared_database(self._settings.database_url.get_secret_value()).in_use() as database:
                in_time = forecasts.record(
                    database,
                    [each.quantiles for each in forecast.horizons],
                    market=self._settings.market,
                    pair=self._series.pair,
                    interval=self._series.interval,
                    as_of_ms=forecast.window.as_of_ms,
                    version=forecast.model.version.version,
                    last_close=forecast.last_close,
                    foundation=forecast.by_foundation,
                )
        except POSTGRES_UNAVAILABLE as error:
            _log.warning("%s: the forecast is not recorded yet: %s", self._series.name, error)
            return "the forecast is not recorded yet: Postgres does not answer"
        if not in_time:
            _log.warning("%s: a forecast came after its close, and is not recorded", self._series.name)
        self._recorded = forecast
        return ""


def pause_s(interval: Interval, now_ms: int, *, failures: int, delay_s: float) -> float:
    """Return the time to `delay_s` after the next close, or to an earlier retry, with exponential backoff."""
    next_close_ms = interval.last_close_ms(now_ms) + interval.ms
    until_close_s = (next_close_ms - now_ms) / 1000 + delay_s
    if not failures:
        return until_close_s
    return min(backoff_s(failures), until_close_s)  # a new candle must not wait for what failed before


def backoff_s(failures: int) -> float:
    """Return the pause after this many failures in a row: 2 s, doubled with each, at most a minute."""
    return min(float(_FIRST_RETRY_S * 2 ** min(failures - 1, 10)), _LONGEST_RETRY_S)


def _joined(*problems: str) -> str:
    return "; ".join(filter(None, problems))
