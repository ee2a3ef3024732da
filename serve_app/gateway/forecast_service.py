"""What the endpoints share: a pair's forecast and model, calls to its replica, and counting the caller's calls."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import TypeVar

from make_us_rich.accounts import Accounts, TokenOwner, next_month
from make_us_rich.core.errors import QuotaExceeded, RegistryError
from make_us_rich.core.pair import Pair, foundation_name, model_name
from make_us_rich.core.settings import Settings
from make_us_rich.database import forecasts
from make_us_rich.database import pairs as pairs_table
from make_us_rich.documents import (
    CandleColumns,
    Document,
    Forecast,
    JudgedModel,
    Model,
    ModelCard,
    PairState,
    PastForecast,
    ReplicaError,
    Usage,
)
from make_us_rich.market.candles import Candles
from make_us_rich.registry.client import CHAMPION, PREVIOUS, ModelVersion, Registry
from make_us_rich.registry.promotion import TAG_DECISION
from serve_app.gateway.forecast_cache import CachedForecast, ForecastCache
from serve_app.gateway.quota import QuotaCounter, quota_headers, quota_problem
from serve_app.gateway.replica_client import ReplicaClient, StateMethod
from serve_app.metrics import GatewayMetrics
from serve_app.problems import WARMING_S, Problem, replica_problem, unavailable

_log = logging.getLogger("ray.serve")

_NEWEST_MODELS = 10

D = TypeVar("D", bound=Document)


class ForecastService:
    """Every method that takes `name`, a pair's application such as btc_usdt_1h, raises Problem 503 for no answer."""

    def __init__(
        self, settings: Settings, replicas: ReplicaClient, accounts: Accounts, metrics: GatewayMetrics
    ) -> None:
        self.settings = settings
        self._replicas = replicas
        self._accounts = accounts
        self._quota_counter = QuotaCounter(accounts)
        self._metrics = metrics
        self._forecasts = ForecastCache(replicas, metrics)

    async def served_pairs(self) -> list[Pair]:
        """Return the pairs that have an application, in order."""
        suffix = f"_{self.settings.interval}"
        names = await self._replicas.applications()
        return sorted(Pair.parse(name.removesuffix(suffix)) for name in names if name.endswith(suffix))

    async def application_of(self, pair: Pair) -> str:
        """Return the name of a pair's application. Raises Problem 404 when it is not served, 503 when not yet."""
        name = model_name(pair, self.settings.interval)
        if name in await self._replicas.applications():
            return name
        if pair in await asyncio.to_thread(self._tracked_pairs):
            raise unavailable("warming", f"{pair} has no model yet: its first training run is due", WARMING_S)
        served = ", ".join((await self.served_pairs())[:20])
        raise Problem(404, "unknown-pair", f"{pair} is not served; served are: {served or 'none yet'}", field="pair")

    def _tracked_pairs(self) -> set[Pair]:
        return {tracked.pair for tracked in pairs_table.active(self._accounts.database)}

    async def forecast(self, pair: Pair, model: str = CHAMPION, *, wake: bool = True) -> CachedForecast:
        """Return a pair's forecast, from the cache or its replica.

        Raises Problem 404 for a pair or model that does not exist, 503 when there is no forecast, or when its replica
        is stopped and must not be woken.
        """
        return await self._forecasts.get(await self.application_of(pair), model, wake=wake)

    async def forecast_from(self, pair: Pair, candles: Candles, reference: Candles | None) -> Forecast:
        """Return the forecast after a caller's own candles. Raises Problem 422 when the model cannot use them."""
        return await self._call(Forecast, pair, "forecast_from", candles, reference)

    async def candles(self, pair: Pair, limit: int) -> CandleColumns:
        """Return the newest closed candles of a pair."""
        return await self._call(CandleColumns, pair, "candles", limit)

    async def past_forecasts(self, pair: Pair, limit: int) -> list[PastForecast]:
        """Return forecasts of closed candles, newest first; one of the open candle would be free of charge.

        Raises psycopg2.Error.
        """
        return await asyncio.to_thread(
            forecasts.past,
            self._accounts.database,
            market=self.settings.market,
            pair=pair,
            interval=self.settings.interval,
            closed_by_ms=time.time_ns() // 1_000_000,
            limit=limit,
        )

    async def model_card(self, pair: Pair) -> ModelCard:
        """Return the model that serves a pair, with its history in the registry; null where that does not answer."""
        serving = await self._call(Model, pair, "model")
        return await asyncio.to_thread(self._model_card, model_name(pair, self.settings.interval), serving)

    def _model_card(self, name: str, serving: Model) -> ModelCard:
        try:
            with Registry(self.settings) as registry:
                promotion = registry.get(serving.name, serving.version).tags.get(TAG_DECISION)
                previous_version = registry.find(name, PREVIOUS)
                newest = [_judged(version) for version in registry.versions(name, _NEWEST_MODELS)]
                previous = _judged(previous_version) if previous_version else None
        except RegistryError as error:
            _log.warning("%s: the history of its model cannot be read: %s", name, error)
            promotion = previous = newest = None
        by_foundation = serving.name == foundation_name(self.settings.interval)
        return ModelCard(
            **dict(serving), foundation=by_foundation, promotion=promotion, previous=previous, newest=newest
        )

    async def pair_states(self, method: StateMethod = "state") -> dict[str, PairState]:
        """Return the state of every application; `refresh` fetches newer candles first."""
        return await self._replicas.states(method)

    async def _call(self, kind: type[D], pair: Pair, method: str, *arguments: object) -> D:
        name = await self.application_of(pair)
        answer = await self._replicas.call(name, method, *arguments)
        if isinstance(answer, ReplicaError):
            raise replica_problem(name, answer)
        assert isinstance(answer, kind)
        return answer

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


def _judged(version: ModelVersion) -> JudgedModel:
    model = version.describe(time.time_ns() // 1_000_000)
    return JudgedModel(**dict(model), promotion=version.tags.get(TAG_DECISION))
