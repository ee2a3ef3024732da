"""What the endpoints share: forecasts, cached; calls to the replicas; and counting the calls of the month."""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

from make_us_rich.accounts import Accounts, TokenOwner, next_month
from make_us_rich.core.errors import QuotaExceeded, RegistryError
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair, Series, foundation_name
from make_us_rich.core.settings import Settings
from make_us_rich.core.times import current_ms
from make_us_rich.database import forecasts
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import POSTGRES_UNAVAILABLE
from make_us_rich.documents import (
    CandleColumns,
    Forecast,
    JudgedModel,
    Model,
    ModelCard,
    PairState,
    PastForecast,
    Readiness,
    Usage,
)
from make_us_rich.market.candles import Candles
from make_us_rich.registry.client import CHAMPION, PREVIOUS, REQUEST_TIMEOUT_S, ModelVersion, Registry
from make_us_rich.registry.promotion import TAG_DECISION
from serve_app.gateway.callers import QuotaCounter, quota_headers, quota_problem
from serve_app.gateway.readiness import ServedBefore, readiness
from serve_app.gateway.replica_client import D, ReplicaClient, ask
from serve_app.metrics import GatewayMetrics
from serve_app.problems import WARMING_S, Problem, unavailable
from serve_app.single_flight import SharedCalls, SingleFlightCache

_log = logging.getLogger("ray.serve")

_NEWEST_MODELS = 10
# Also the longest time for which a swapped model or a new candle stays unseen.
_TTL_S = 0.5
# How long a caller waits for a replica when the cached forecast is still valid.
_WAIT_FOR_FRESH_S = 0.25
# Of its own: the other threads check tokens and count calls, which a silent MLflow must not hold up.
_REGISTRY_THREADS = ThreadPoolExecutor(4, thread_name_prefix="registry")
# Of what costs ten times as much as a cached forecast and no call of the month.
_TRACKED_TTL_S, _STATES_TTL_S, _CARD_TTL_S = 1.0, 1.0, 5.0
_MOST_CARDS = 1000
# Lists of horizons whose answers are kept for each forecast.
_MOST_PARTS = 16


class ForecastService:
    """Methods that call a replica raise Problem 404 when the series is not served, 503 when there is no answer."""

    def __init__(
        self, settings: Settings, replicas: ReplicaClient, accounts: Accounts, metrics: GatewayMetrics
    ) -> None:
        self.settings = settings
        self._first_interval = settings.default_interval
        self.replicas = replicas
        self._accounts = accounts
        self._quota_counter = QuotaCounter(accounts)
        self._metrics = metrics
        self._forecasts = ForecastCache(replicas, metrics)
        self._tracked: SingleFlightCache[None, frozenset[Pair]] = SingleFlightCache(_TRACKED_TTL_S)
        self._states: SingleFlightCache[None, dict[str, PairState]] = SingleFlightCache(_STATES_TTL_S)
        self._served_before = ServedBefore(settings, accounts.database)
        self._cards: SingleFlightCache[tuple[Series, str, int], ModelCard] = SingleFlightCache(_CARD_TTL_S, _MOST_CARDS)

    def series(self, pair: Pair, interval: str | None) -> Series:
        """Return the series that a caller asks about. Raises InputError for an interval that is not forecast here."""
        return Series(pair, self._first_interval if interval is None else self.settings.forecast_interval(interval))

    async def served_series(self) -> list[Series]:
        """Return the series that have an application, in order."""
        return _sorted_series(await self.replicas.applications())

    async def served_pairs(self, interval: Interval) -> list[Pair]:
        """Return the pairs that have an application of this interval, in order."""
        return [series.pair for series in await self.served_series() if series.interval == interval]

    async def application_of(self, series: Series) -> str:
        """Return the name of a series' application. Raises Problem 404 when it is not served, 503 when not yet."""
        name = series.name
        if name in await self.replicas.applications():
            return name
        pair, interval = series
        if pair in await self._tracked.get(None, self._tracked_pairs):
            if name in (await self._served_before.names() or ()):
                detail = (
                    f"{pair} was served and is not loaded at the moment: it is back when the service is deployed again"
                )
                raise unavailable("no-answer", detail, WARMING_S)
            detail = f"{pair} has no model of {interval} candles yet: it was just added, or its first training is due"
            raise unavailable("warming", detail, WARMING_S)
        served = ", ".join((await self.served_pairs(interval))[:20])
        raise Problem(404, "unknown-pair", f"{pair} is not served; served are: {served or 'none yet'}", field="pair")

    async def _tracked_pairs(self) -> frozenset[Pair]:
        return frozenset(item.pair for item in await asyncio.to_thread(pairs_table.active, self._accounts.database))

    async def states(self) -> dict[str, PairState]:
        """Return the state of each application (TTL 1 s)."""
        return await self._states.get(None, lambda: self.replicas.states("state"))

    async def readiness(self) -> Readiness:
        """Tell whether the service can answer, and why a pair cannot be answered (TTL 1 s)."""
        return readiness(await self.states(), await self._served_before.names())

    async def forecast(self, series: Series, model: str = CHAMPION, *, wake: bool = True) -> CachedForecast:
        """Return the forecast of a series, from the cache or its replica.

        Raises Problem 404 for a series or model that does not exist, 503 when there is no forecast, or when its replica
        is stopped and must not be woken.
        """
        return await self._forecasts.get(await self.application_of(series), model, wake=wake)

    async def forecast_from(self, series: Series, candles: Candles, reference: Candles | None) -> Forecast:
        """Return the forecast after a caller's own candles. Raises Problem 422 when the model cannot use them."""
        return await self._call(Forecast, series, "forecast_from", candles, reference)

    async def candles(self, series: Series, limit: int) -> CandleColumns:
        """Return the newest closed candles of a series."""
        return await self._call(CandleColumns, series, "candles", limit)

    async def past_forecasts(self, series: Series, limit: int, horizon: int) -> list[PastForecast]:
        """Return forecasts of past closes, newest first; one of a coming close would be free of charge.

        Raises psycopg2.Error.
        """
        return await asyncio.to_thread(
            forecasts.past,
            self._accounts.database,
            market=self.settings.market,
            pair=series.pair,
            interval=series.interval,
            closed_by_ms=current_ms(),
            limit=limit,
            horizon=horizon,
        )

    async def model_card(self, series: Series) -> ModelCard:
        """Return the model that serves a series, with its history in the registry; null where that does not answer.

        The history is cached for 5 s.
        """
        serving = await self._call(Model, series, "model")
        key = series, serving.name, serving.version
        return await self._cards.get(key, lambda: self._new_model_card(series, serving))

    async def _new_model_card(self, series: Series, serving: Model) -> ModelCard:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                return await loop.run_in_executor(_REGISTRY_THREADS, self._model_card, series, serving)
        except TimeoutError:
            _log.warning("%s: the history of its model cannot be read: MLflow does not answer", series.name)
            return _card(series, serving)

    def _model_card(self, series: Series, serving: Model) -> ModelCard:
        name = series.name
        try:
            with Registry.for_requests(self.settings) as registry:
                promotion = registry.get(serving.name, serving.version).tags.get(TAG_DECISION)
                previous_version = registry.find(name, PREVIOUS)
                newest = [_judged(version) for version in registry.versions(name, _NEWEST_MODELS)]
                previous = _judged(previous_version) if previous_version else None
        except RegistryError as error:
            _log.warning("%s: the history of its model cannot be read: %s", name, error)
            return _card(series, serving)
        return _card(series, serving).model_copy(
            update={"promotion": promotion, "previous": previous, "newest": newest}
        )

    async def _call(self, kind: type[D], series: Series, method: str, *arguments: object) -> D:
        return await ask(self.replicas, kind, await self.application_of(series), method, *arguments)

    async def check_quota(self, owner: TokenOwner) -> None:
        """Refuse a caller whose month is used up, before a costly answer is made. It counts nothing.

        Raises Problem 429, or UnknownToken when the account is gone. While Postgres does not answer, callers pass.
        """
        if self._quota_counter.passes_uncounted:
            return
        try:
            await asyncio.to_thread(self._accounts.quota.check, owner)
        except QuotaExceeded as error:
            self._metrics.quota_refused("month")
            raise quota_problem(error) from None
        except POSTGRES_UNAVAILABLE as error:
            _log.warning("user %d: the quota is checked when the call is counted: %s", owner.user_id, error)

    async def count_call(self, owner: TokenOwner) -> dict[str, str]:
        """Count one call of the month and return the RateLimit headers. Raises Problem 429.

        It is called when the answer is ready, so that a call that was refused or failed costs nothing.
        """
        try:
            remaining = await self._quota_counter.count(owner)
        except QuotaExceeded as error:
            self._metrics.quota_refused("month")
            raise quota_problem(error) from None
        if remaining is None:
            return {}
        reset_s = int(next_month(datetime.now(UTC)).timestamp() - time.time())
        return quota_headers(owner.monthly_calls, remaining, reset_s)

    async def usage(self, owner: TokenOwner) -> Usage:
        """Return the owner's calls of this month."""
        usage = await asyncio.to_thread(self._accounts.quota.usage, owner.user_id)
        return Usage(limit=usage.limit, used=usage.used, remaining=usage.remaining, resets_at_ms=usage.resets_at_ms)


@lru_cache(maxsize=4)
def _sorted_series(names: frozenset[str]) -> list[Series]:
    return sorted(map(Series.parse, names))


def _card(series: Series, serving: Model) -> ModelCard:
    """Return the card of a model without its history."""
    by_foundation = serving.name == foundation_name(series.interval)
    return ModelCard(**dict(serving), foundation=by_foundation, promotion=None, previous=None, newest=None)


def _judged(version: ModelVersion) -> JudgedModel:
    model = version.describe(current_ms())
    return JudgedModel(**dict(model), promotion=version.tags.get(TAG_DECISION))


@dataclass(frozen=True)
class CachedForecast:
    """A forecast with the body and the headers of its answer, which are built once."""

    document: Forecast
    body: bytes
    etag: str
    _parts: dict[tuple[int, ...], CachedForecast] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, document: Forecast) -> CachedForecast:
        model, flags = document.model, document.flags
        raised = "".join(str(int(flag)) for _, flag in flags)
        # The exchange may revise the newest candle, and then the forecast of the same time is another one.
        prices = zlib.crc32(repr((document.last_close, document.quantiles)).encode())
        # Weak, because the body changes with the model's age while forecast and model stay the same.
        etag = f'W/"{document.as_of_ms}-{model.version}-{model.as_of_ms}-{raised}-{prices:x}"'
        return cls(document, document.model_dump_json().encode(), etag)

    def only(self, horizons: tuple[int, ...]) -> CachedForecast:
        """Return the forecast with these horizons, ascending, alone. Raises InputError when it lacks one of them."""
        if horizons not in self._parts:
            document = self.document.only(horizons)
            if len(document.horizons) == len(self.document.horizons):
                return self
            while len(self._parts) >= _MOST_PARTS:
                del self._parts[next(iter(self._parts))]
            etag = f'{self.etag[:-1]}-{".".join(map(str, horizons))}"'
            self._parts[horizons] = CachedForecast(document, document.model_dump_json().encode(), etag)
        return self._parts[horizons]

    @property
    def is_valid(self) -> bool:
        """True until the candle that it forecasts has closed."""
        return time.time() * 1000 < self.document.target_close_ms

    @property
    def headers(self) -> dict[str, str]:
        """The answer's headers: a client may keep it until the next close, and not at all when it is stale."""
        seconds = max(0, int(self.document.target_close_ms / 1000 - time.time()))
        return {
            "ETag": self.etag,
            "Cache-Control": f"private, max-age={0 if self.document.flags.stale else seconds}",
            "X-Model-Version": f"{self.document.model.name}/{self.document.model.version}",
        }


class ForecastCache:
    """A forecast is valid until its candle closes: it stands in for a replica that is stopped or does not answer."""

    def __init__(self, replicas: ReplicaClient, metrics: GatewayMetrics) -> None:
        self._replicas = replicas
        self._metrics = metrics
        self._cached: dict[tuple[str, str], tuple[float, CachedForecast]] = {}
        self._calls: SharedCalls[tuple[str, str], CachedForecast] = SharedCalls()

    async def get(self, name: str, model: str, *, wake: bool = True) -> CachedForecast:
        """Return an application's forecast. Raises Problem 503 when there is none, 404 when there is no such model.

        `wake`: start a replica that is scaled to zero when no valid forecast is cached.
        """
        key = name, model
        expires_at, cached = self._cached.get(key, (0.0, None))
        is_fresh = time.monotonic() < expires_at
        is_stopped = self._replicas.is_scaled_to_zero(name)
        if cached is not None and (is_fresh or (cached.is_valid and is_stopped)):
            self._metrics.forecast_given(name, "memory")
            return cached
        if is_stopped and not wake:
            raise unavailable("asleep", "asleep because nobody asked for it: a call that names the pair wakes it")
        self._metrics.forecast_given(name, "replica")
        call = self._calls.join(key, lambda: self._call(key))
        if cached is None or not cached.is_valid:
            return await call
        try:
            return await asyncio.wait_for(call, _WAIT_FOR_FRESH_S)
        except (Problem, TimeoutError):
            return cached

    async def _call(self, key: tuple[str, str]) -> CachedForecast:
        name, model = key
        cached = CachedForecast.of(await ask(self._replicas, Forecast, name, "forecast", model))
        self._cached[key] = (time.monotonic() + _TTL_S, cached)
        return cached
