"""Train the foundation model, which each pair's model is fine-tuned from, each week."""

from __future__ import annotations

from airflow.sdk import CronDataIntervalTimetable, TriggerRule, dag, task

from dags.support.operator import RayJobOperator
from dags.support.tasks import CANDLES, FOUNDATION, TRAINING_DAG, fetch, job_command, plan_run, report, trainable, typed
from make_us_rich.core.pair import Pair
from make_us_rich.documents import RunItem

DOC = """
### One model of all pairs

Each Monday at 02:30 UTC one network is trained on the candles of every pair and registered as `foundation_1h`. Of more
pairs than `MUR_FOUNDATION_PAIRS` it learns from a random sample. The hourly **train_pairs** fine-tunes it for each
pair, which is faster and better than training from scratch; until the first foundation exists, it trains from scratch.
"""


@dag(
    schedule=CronDataIntervalTimetable("30 2 * * 1", timezone="UTC"),
    **TRAINING_DAG,
    doc_md=DOC,
    tags=["forecasting", "weekly"],
)
def train_foundation() -> None:
    items = plan_run()
    trained = RayJobOperator(
        task_id="train", entrypoint=command(items, fetch.expand(item=items)), inlets=[CANDLES], outlets=[FOUNDATION]
    )
    trained >> report(items)


@task(trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS)
@typed
def command(items: list[RunItem], fetched: list[Pair]) -> str:
    """Return the command line of the job, for the pairs whose candles were fetched."""
    return job_command("ray_jobs.train_foundation", trainable(items, fetched))


train_foundation()
