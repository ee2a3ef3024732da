"""What is worth another try, and after how long: by the kind of fault, not by the task it met."""

from __future__ import annotations

import random
from datetime import timedelta

from airflow.sdk import Context, RetryDecision, RetryPolicy

from make_us_rich.core.errors import InputError, LocationRefused, MarketUnavailable, PairNotTraded, RateLimited
from make_us_rich.registry.promotion import ChampionChanged

RETRIES = 3
"""Tries after the first; with these pauses they span a restart of any component."""

_FIRST_S = 5.0
_GROWTH = 3.0  # 5, 15, 45 s: a component of ours restarts in less
_EXCHANGE_GROWTH = 2.0  # 5, 10, 20 s: all pairs wait for one, and the client has asked several times before
_LONGEST_BAN_S = 15 * 60.0
_HOPELESS = (InputError, LocationRefused, PairNotTraded, ChampionChanged)


class RetryByFault(RetryPolicy):
    """A component of ours gets the time of a restart, the exchange less, a mistake or a delisted pair none."""

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        name = type(exception).__name__
        if isinstance(exception, _HOPELESS):
            return RetryDecision.fail(f"{name}: another try changes nothing")
        if isinstance(exception, RateLimited):
            if exception.retry_after_s > _LONGEST_BAN_S:
                return RetryDecision.fail(f"{name}: the ban outlasts the run")
            # asking a moment too early would make the ban longer
            return _retry(exception.retry_after_s + random.uniform(1, 5), name)
        growth = _EXCHANGE_GROWTH if isinstance(exception, MarketUnavailable) else _GROWTH
        return _retry(_FIRST_S * growth ** (try_number - 1) * random.uniform(0.8, 1.2), name)


def _retry(delay_s: float, name: str) -> RetryDecision:
    return RetryDecision.retry(timedelta(seconds=delay_s), f"{name}: again in {delay_s:.0f} s")
