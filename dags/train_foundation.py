"""Train the model that all pairs are fine-tuned from, each week."""

from __future__ import annotations

from typing import Any

from airflow.sdk import CronDataIntervalTimetable, TriggerRule, dag, task

from dags.support.assets import CANDLES, FOUNDATION
from dags.support.operator import RayJobOperator
from dags.support.runs import job_command, trainable
from dags.support.tasks import TRAINING_DAG, fetch, plan_run, report

DOC = """
### One model of all pairs

Each Monday at 02:30 UTC one network is trained on the candles of every pair and registered as `foundation_1h`. Of more
pairs than `MUR_FOUNDATION_PAIRS` it learns from a draw. The hourly **train_pairs** then fine-tunes it for each pair,
which is faster and better than starting from nothing; before the first foundation there is, it starts from nothing.
"""


@dag(
    schedule=CronDataIntervalTimetable("30 2 * * 1", timezone="UTC"),
    **TRAINING_DAG,
    doc_md=DOC,
    tags=["forecasting", "weekly"],
)
def train_foundation() -> None:
    plan = plan_run()
    trained = RayJobOperator(
        task_id="train", entrypoint=command(plan, fetch.expand(item=plan)), inlets=[CANDLES], outlets=[FOUNDATION]
    )
    trained >> report(plan)


@task(trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS)
def command(plan: list[dict[str, Any]], fetched: list[str]) -> str:
    """The job for the pairs whose candles arrived."""
    pairs = trainable(plan, fetched)
    return job_command("ray_jobs.train_foundation", pairs, plan[0]["interval"], plan[0]["as_of_ms"])


train_foundation()
