"""Tasks, assets and default arguments that several DAGs share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Any

import pendulum
from airflow.sdk import Asset, TriggerRule, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException
from pydantic import validate_call
from pydantic_core import to_jsonable_python

from dags.support.alerts import post_failures, record_failure
from dags.support.retries import RETRIES, RetryByFault
from dags.support.runs import run_items, run_params
from make_us_rich.core.errors import PairNotTraded
from make_us_rich.core.interval import HOUR_MS
from make_us_rich.core.settings import get_settings
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from make_us_rich.documents import OfPair, RunItem

# Airflow's asset graph shows how a forecast derives from candles and models.
CANDLES = Asset("candles", group="make_us_rich")
FOUNDATION = Asset("foundation_model", group="make_us_rich")
MODELS = Asset("models", group="make_us_rich")
FORECASTS = Asset("forecasts", group="make_us_rich")
SCORES = Asset("scores", group="make_us_rich")

_MAX_FETCHES = 4  # at a time over all runs, because the exchange limits the requests of one address
_PARK_AFTER_MS = 24 * HOUR_MS  # a shorter halt may be maintenance of the exchange

DAG_DEFAULTS: dict[str, Any] = {
    "start_date": datetime(2024, 1, 1, tzinfo=pendulum.UTC),
    "catchup": False,
    "max_active_runs": 1,
    "default_args": {
        "owner": "forecasting",
        "retries": RETRIES,
        "retry_policy": RetryByFault(),
        "on_failure_callback": record_failure,
    },
}
"""Arguments of every DAG. Without catch-up, an outage is followed by one run for the newest interval."""

TRAINING_DAG = DAG_DEFAULTS | {"params": run_params(get_settings())}
"""Arguments of the DAGs that work on pairs as of a time."""


def typed(function: Callable[..., object]) -> Callable[..., Any]:
    """Parse a task's arguments by their annotations, and return its result as JSON, because XCom holds only JSON.

    Put it below `@task`. In the DAG file a task is called with XComArgs, so the wrapper accepts anything.
    """
    parsed = validate_call(function)

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return to_jsonable_python(parsed(*args, **kwargs))

    return call


@task
@typed
def plan_run() -> list[RunItem]:
    """Read the run's pairs, interval and as_of; refuse what cannot be trained."""
    return run_items(get_current_context(), get_settings())


@task(map_index_template="{{ task.op_kwargs['item']['pair'] }}", max_active_tis_per_dag=_MAX_FETCHES, outlets=[CANDLES])
@typed
def fetch(item: RunItem) -> str:
    """Store the closed candles of one pair that S3 lacks. Parks a pair that the exchange has not traded for a day."""
    from make_us_rich.market.candle_store import CandleStore
    from make_us_rich.market.exchange import ExchangeClient

    settings = get_settings()
    try:
        fetched = CandleStore.from_settings(settings).update(
            ExchangeClient(settings.exchange_url),
            market=settings.market,
            pair=item.pair,
            interval=item.interval,
            as_of_ms=item.as_of_ms,
            history_candles=settings.history_candles,
        )
    except PairNotTraded as error:
        if item.train and error.idle_ms >= _PARK_AFTER_MS:
            with Database.from_settings(settings) as database:
                pairs_table.park(database, item.pair, str(error))
            raise PairNotTraded(f"{error} It is parked: later runs leave it out until it is made active.") from None
        raise
    print(fetched)
    return str(item.pair)


@task(trigger_rule=TriggerRule.ALL_DONE, retries=0, on_failure_callback=None)
@typed
def report(items: list[OfPair] | None) -> None:
    """Post the failures of the run to Discord in one message, and fail the run if there are any.

    `items` name the pairs that the run worked on.
    """
    failures = post_failures(get_current_context(), [str(item.pair) for item in items or []], get_settings())
    if failures:
        raise AirflowFailException(f"failed: {', '.join(sorted({failure.name for failure in failures}))}")
