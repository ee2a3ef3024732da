"""Retry policy of every task: the kind of error, not the task, decides whether and when to retry."""

from __future__ import annotations

import random
from datetime import timedelta

from airflow.sdk import Context, RetryDecision, RetryPolicy

from make_us_rich.core.errors import InputError, LocationRefused, MarketUnavailable, PairNotTraded, RateLimited
from make_us_rich.registry.promotion import ChampionChanged

RETRIES = 3
"""With the delays below, three retries outlast a restart of any component."""

_FIRST_DELAY_S = 5.0
_GROWTH = 3.0  # 5, 15, 45 s: each of our components restarts in less
_EXCHANGE_GROWTH = 2.0  # 5, 10, 20 s: one slow pair delays all, and the exchange client has retried already
_LONGEST_BAN_S = 15 * 60.0
_PERMANENT = (InputError, LocationRefused, PairNotTraded, ChampionChanged)


class RetryByFault(RetryPolicy):
    """Retries with exponential backoff and jitter; fails at once on an error that a retry cannot change."""

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        name = type(exception).__name__
        if isinstance(exception, _PERMANENT):
            return RetryDecision.fail(f"{name}: a retry changes nothing")
        if isinstance(exception, RateLimited):
            if exception.retry_after_s > _LONGEST_BAN_S:
                return RetryDecision.fail(f"{name}: the ban lasts longer than the run")
            # A request during the ban would prolong it.
            return _retry(exception.retry_after_s + random.uniform(1, 5), name)
        growth = _EXCHANGE_GROWTH if isinstance(exception, MarketUnavailable) else _GROWTH
        return _retry(_FIRST_DELAY_S * growth ** (try_number - 1) * random.uniform(0.8, 1.2), name)


def _retry(delay_s: float, name: str) -> RetryDecision:
    return RetryDecision.retry(timedelta(seconds=delay_s), f"{name}: retry in {delay_s:.0f} s")
