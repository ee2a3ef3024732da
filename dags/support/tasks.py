"""The tasks and settings that more than one DAG has."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pendulum
from airflow.sdk import TriggerRule, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

from dags.support import alerts
from dags.support.assets import CANDLES
from dags.support.retries import RETRIES, RetryByFault
from dags.support.runs import run_params, run_plan
from make_us_rich.core.errors import PairNotTraded
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.settings import get_settings
from make_us_rich.database import pairs as pairs_table

_FETCHES_AT_ONCE = 4  # of all runs together: the exchange counts what one address asks
# A shorter halt may be the exchange's maintenance.
_PARKED_AFTER_MS = 24 * HOUR_MS

DAG_DEFAULTS: dict[str, Any] = {
    "start_date": datetime(2024, 1, 1, tzinfo=pendulum.UTC),
    "catchup": False,
    "max_active_runs": 1,
    "default_args": {
        "owner": "forecasting",
        "retries": RETRIES,
        "retry_policy": RetryByFault(),
        "on_failure_callback": alerts.remember_failure,
    },
}
"""What every DAG has in common. Without catch-up, an outage is followed by a run for the newest interval only."""

TRAINING_DAG = DAG_DEFAULTS | {"params": run_params(get_settings())}
"""What the DAGs that work on pairs as of a time have in common."""


@task
def plan_run() -> list[dict[str, Any]]:
    """Read the run's pairs, interval and as_of; refuse what cannot be trained."""
    return run_plan(get_current_context(), get_settings())


@task(
    map_index_template="{{ task.op_kwargs['item']['pair'] }}",
    max_active_tis_per_dag=_FETCHES_AT_ONCE,
    outlets=[CANDLES],
)
def fetch(item: dict[str, Any]) -> str:
    """Bring the closed candles of one pair that S3 does not hold yet; park a pair that the exchange gave up."""
    from make_us_rich.core.pair import Pair
    from make_us_rich.market.candle_store import CandleStore
    from make_us_rich.market.exchange import ExchangeClient

    settings = get_settings()
    pair = Pair.parse(item["pair"])
    try:
        fetched = CandleStore.from_settings(settings).update(
            ExchangeClient(settings.exchange_url),
            market=settings.market,
            pair=pair,
            interval=Interval(item["interval"]),
            as_of_ms=item["as_of_ms"],
            history_candles=settings.history_candles,
        )
    except PairNotTraded as error:
        if item["train"] and error.idle_ms >= _PARKED_AFTER_MS:
            pairs_table.park(settings.database_url.get_secret_value(), pair, str(error))
            raise PairNotTraded(f"{error} It is parked: later runs leave it out until it is made active.") from None
        raise
    print(fetched)
    return str(pair)


@task(trigger_rule=TriggerRule.ALL_DONE, retries=0, on_failure_callback=None)
def report(plan: list[dict[str, Any]] | None) -> None:
    """Tell Discord once what failed; end the run as failed then, so that the grid shows it.

    `plan`: items that name the pairs that the run worked on, if any.
    """
    failures = alerts.report(get_current_context(), [item["pair"] for item in plan or []], get_settings())
    if failures:
        names = sorted({note["pair"] or note["task"] for note in failures})
        raise AirflowFailException(f"failed: {', '.join(names)}")
