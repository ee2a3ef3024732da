"""The retry policy of every task, by the kind of fault, and the default arguments of every DAG."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import pendulum
from airflow.sdk import Context, RetryDecision, RetryPolicy
from airflow.sdk.exceptions import AirflowFailException

from dags.support.alerts import PairsFailed, record_failure
from make_us_rich.core.errors import InputError, LocationRefused, MarketUnavailable, PairNotTraded, RateLimited
from make_us_rich.registry.promotion import ChampionChanged

_FIRST_DELAY_S = 5.0
_GROWTH = 3.0  # 5, 15, 45 s: each of our components restarts in less
_EXCHANGE_GROWTH = 2.0  # 5, 10, 20 s: one slow pair delays all, and the exchange client has retried already
_LONGEST_BAN_S = 15 * 60.0
_PERMANENT = (InputError, LocationRefused, PairNotTraded, ChampionChanged, AirflowFailException)


class RetryByFault(RetryPolicy):
    """Retries with exponential backoff and jitter; fails at once on an error that a retry cannot change."""

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        name = type(exception).__name__
        if isinstance(exception, PairsFailed) and exception.errors:
            decisions = [self.evaluate(each, try_number, max_tries, context) for each in exception.errors]
            return max(decisions, key=lambda each: each.retry_delay or timedelta())
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


DAG_DEFAULTS: dict[str, Any] = {
    "start_date": datetime(2024, 1, 1, tzinfo=pendulum.UTC),
    "catchup": False,
    "max_active_runs": 1,
    "default_args": {
        "owner": "forecasting",
        "retries": 3,  # with the delays of the policy, they outlast a restart of any component
        "retry_policy": RetryByFault(),
        # The policy runs in the task's process, so not for a killed one. Airflow's default is five minutes.
        "retry_delay": timedelta(seconds=_FIRST_DELAY_S),
        "on_failure_callback": record_failure,
    },
}
"""Arguments of every DAG. Without catch-up, an outage is followed by one run for the newest interval."""
