"""Is the service alive, and is every forecast fresh?"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import CronTriggerTimetable, dag, task

from dags.support.alerts import PairsFailed
from dags.support.tasks import DAG_DEFAULTS, report
from make_us_rich.core.settings import get_settings

DOC = """
### Asked every five minutes

**alive**: does the HTTP API answer at `/healthz`? **forecasts**: by `/readyz`, is every active pair with a champion
loaded, with that champion, and is its newest forecast of the newest closed candle? What is wrong is told to Discord
once, and once more when it works again.
"""


@dag(
    schedule=CronTriggerTimetable("*/5 * * * *", timezone="UTC"),
    **DAG_DEFAULTS | {"default_args": DAG_DEFAULTS["default_args"] | {"retries": 1}},
    dagrun_timeout=timedelta(minutes=5),
    doc_md=DOC,
    tags=["service", "every 5 minutes"],
)
def watch_service() -> None:
    looked = look()
    alive() >> looked
    forecasts(looked) >> report(looked)


@task(execution_timeout=timedelta(minutes=1))
def alive() -> None:
    """The gateway answers."""
    from make_us_rich.operations.watch import check_alive

    check_alive(get_settings())


@task(execution_timeout=timedelta(minutes=2))
def look() -> list[dict[str, str]]:
    """What is wrong with each active pair, if anything."""
    from make_us_rich.operations.watch import check_pairs

    return [{"pair": pair, "complaint": text} for pair, text in check_pairs(get_settings()).items()]


@task(retries=0)
def forecasts(looked: list[dict[str, str]]) -> None:
    """Every pair answers, with its champion and a fresh forecast."""
    ailing = {item["pair"]: item["complaint"] for item in looked if item["complaint"]}
    if ailing:
        raise PairsFailed(ailing)


watch_service()
