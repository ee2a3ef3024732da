"""What the endpoints share: finding a pair's forecast, and charging for it."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

from make_us_rich.accounts import Accounts, TokenOwner, next_month
from make_us_rich.core.errors import QuotaExceeded
from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import Settings
from make_us_rich.database import pairs as pairs_table
from make_us_rich.registry.client import CHAMPION, model_name
from serve_app.api.problems import WARMING_S, Problem, known_answer, quota_headers, quota_problem, unavailable
from serve_app.gateway.forecast_cache import ForecastAnswer, ForecastCache
from serve_app.gateway.quota import QuotaCounter
from serve_app.gateway.replica_client import ReplicaClient
from serve_app.metrics import GatewayMetrics


class ForecastService:
    def __init__(
        self, settings: Settings, directory: ReplicaClient, accounts: Accounts, metrics: GatewayMetrics
    ) -> None:
        self.settings = settings
        self.directory = directory
        self._accounts = accounts
        self._quota_counter = QuotaCounter(accounts)
        self._metrics = metrics
        self._forecasts = ForecastCache(directory, metrics)

    async def served_pairs(self) -> list[Pair]:
        suffix = f"_{self.settings.interval}"
        names = await self.directory.names()
        return sorted(Pair.parse(name.removesuffix(suffix)) for name in names if name.endswith(suffix))

    async def find(self, text: str) -> str:
        """The application of a pair. Raises UnknownPair (malformed), Problem 404 (not served) or 503 (not yet)."""
        pair = Pair.parse(text)
        name = model_name(pair, self.settings.interval)
        if name in await self.directory.names():
            return name
        if str(pair) in await asyncio.to_thread(self._listed):
            raise unavailable("warming", f"{pair} has no model yet: its first training run is due", WARMING_S)
        served = ", ".join(str(other) for other in (await self.served_pairs())[:20])
        raise Problem(404, "unknown-pair", f"{pair} is not served; served are: {served or 'none yet'}", field="pair")

    def _listed(self) -> set[str]:
        return {listed.pair for listed in pairs_table.active(self.settings.database_url.get_secret_value())}

    async def forecast(self, name: str, model: str = CHAMPION, *, wake: bool = True) -> ForecastAnswer:
        """Raises Problem 503 when there is none or its replica sleeps and is not to be woken, 404 for no such model."""
        return await self._forecasts.get(name, model, wake=wake)

    async def ask(self, name: str, method: str, *arguments: object) -> dict[str, Any]:
        return known_answer(name, await self.directory.ask(name, method, *arguments))

    async def charge(self, owner: TokenOwner) -> dict[str, str]:
        """One call of the month, taken when its answer is ready: a refused or failed call costs nothing.

        Returns the RateLimit headers. Raises Problem 429.
        """
        try:
            remaining = await self._quota_counter.count(owner)
        except QuotaExceeded as error:
            self._metrics.refused("month")
            raise quota_problem(error) from None
        if remaining is None:
            return {}
        reset_s = int(next_month(datetime.now(UTC)).timestamp() - time.time())
        return quota_headers(owner.monthly_calls, remaining, reset_s)

    async def usage(self, owner: TokenOwner) -> Any:
        return await asyncio.to_thread(self._accounts.usage, owner)
