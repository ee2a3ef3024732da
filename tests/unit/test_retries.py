"""Which errors a task is retried after."""

from __future__ import annotations

import pytest
from airflow.sdk import RetryAction

from dags.support.tasks import RetryByFault
from make_us_rich.core.errors import InputError, LocationRefused, MarketUnavailable, PairNotTraded, StoreError


@pytest.mark.parametrize(
    ("fault", "action"),
    [
        (LocationRefused("HTTP 451"), RetryAction.FAIL),
        (PairNotTraded("delisted"), RetryAction.FAIL),
        (InputError("4h", field="interval"), RetryAction.FAIL),
        (MarketUnavailable("502"), RetryAction.RETRY),
        (StoreError("away"), RetryAction.RETRY),
    ],
)
def test_a_task_is_retried_only_where_it_can_help(fault: Exception, action: RetryAction) -> None:
    assert RetryByFault().evaluate(fault, 1, 4).action == action
