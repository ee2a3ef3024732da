"""Check every five minutes that the service answers and that every forecast is fresh."""

from __future__ import annotations

import time
from datetime import timedelta

from airflow.sdk import CronTriggerTimetable, Variable, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException

from dags.support.alerts import PairsFailed, report
from dags.support.retries import DAG_DEFAULTS
from dags.support.run_scope import refuse_unknown_parameters
from dags.support.typed import typed
from make_us_rich.core.settings import get_settings
from make_us_rich.documents import PairHealth
from make_us_rich.operations.health import check_api, check_pairs

DOC = """
### Is the service up, and is every forecast fresh?

Every five minutes: **alive** asks the HTTP API for `/healthz`. **look** asks it for `/readyz`, and **forecasts** fails
for each active pair that is not loaded, does not serve its champion, or has no forecast of the newest closed candle.
A Ray head that was restarted has lost the service, and `serve_app.keep` deploys it again. A problem is posted to
Discord once, and once more when it is over. The first round after a start of the stack or a pause is skipped: Airflow
runs it at once, while the service or the first forecast of a pair may still be starting.
"""

_ROUND_S = 5 * 60
_LAST_ROUND = "watch_service:last_round"


@dag(
    schedule=CronTriggerTimetable("*/5 * * * *", timezone="UTC"),
    **DAG_DEFAULTS | {"default_args": DAG_DEFAULTS["default_args"] | {"retries": 1}},
    dagrun_timeout=timedelta(minutes=5),
    doc_md=DOC,
    tags=["service", "every 5 minutes"],
)
def watch_service() -> None:
    pairs = look()
    alive() >> pairs
    forecasts(pairs) >> report(pairs)


@task(execution_timeout=timedelta(minutes=1))
def alive() -> None:
    """Check that the gateway answers. Skips the round when the watch only begins."""
    context = get_current_context()
    refuse_unknown_parameters(context)
    last_s, now_s = Variable.get(_LAST_ROUND, default=0.0, deserialize_json=True), time.time()
    Variable.set(_LAST_ROUND, now_s, serialize_json=True)
    if begins(last_s, now_s, run_type=str(context["dag_run"].run_type)):
        raise AirflowSkipException("the watch begins: what does not work by the next round is reported then")
    check_api(get_settings())


def begins(last_s: float, now_s: float, *, run_type: str) -> bool:
    """True for a scheduled round without one before it, as after a start. A person's round always reports."""
    return run_type == "scheduled" and now_s - last_s > 2 * _ROUND_S


@task(execution_timeout=timedelta(minutes=2))
@typed
def look() -> list[PairHealth]:
    """Check each active pair."""
    return check_pairs(get_settings())


@task(retries=0)
@typed
def forecasts(pairs: list[PairHealth]) -> None:
    """Fail for the pairs with a problem."""
    problems = {str(item.pair): item.problem for item in pairs if item.problem}
    if problems:
        raise PairsFailed(problems)


watch_service()
