"""Which errors a task is retried after."""

from __future__ import annotations

import pytest
from airflow.sdk import RetryAction
from airflow.sdk.exceptions import AirflowFailException

from dags.support.alerts import PairsFailed
from dags.support.retries import RetryByFault
from make_us_rich.core.errors import (
    InputError,
    LocationRefused,
    MarketUnavailable,
    PairNotTraded,
    RateLimited,
    StoreError,
)


@pytest.mark.parametrize(
    ("fault", "action"),
    [
        (LocationRefused("HTTP 451"), RetryAction.FAIL),
        (PairNotTraded("delisted"), RetryAction.FAIL),
        (InputError("4h", field="interval"), RetryAction.FAIL),
        (MarketUnavailable("502"), RetryAction.RETRY),
        (StoreError("away"), RetryAction.RETRY),
        (PairsFailed({}, [PairNotTraded("delisted"), AirflowFailException("failed")]), RetryAction.FAIL),
        (PairsFailed({}, [PairNotTraded("delisted"), StoreError("away")]), RetryAction.RETRY),
    ],
)
def test_a_task_is_retried_only_where_it_can_help(fault: Exception, action: RetryAction) -> None:
    assert RetryByFault().evaluate(fault, 1, 4).action == action


def test_a_group_of_pairs_waits_for_the_longest_ban() -> None:
    errors = [StoreError("away"), RateLimited("banned", retry_after_s=100)]

    decision = RetryByFault().evaluate(PairsFailed({}, errors), 1, 4)

    assert decision.retry_delay is not None
    assert decision.retry_delay.total_seconds() > 100
