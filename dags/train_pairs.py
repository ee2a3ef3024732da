"""Train, check, promote and serve every pair, each hour."""

from __future__ import annotations

from typing import Any

from airflow.sdk import (
    CronDataIntervalTimetable,
    TriggerRule,
    dag,
    task,
    task_group,
)
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from dags.ray_jobs_operator import RayJobOperator
from dags.runs import job_command, trainable
from dags.tasks import TRAINING_DAG, fetch, plan_run, report
from make_us_rich.settings import get_settings

_SETTINGS = get_settings()
_PAIRS_PER_JOB = 50
_RESULT_PAIR = "{{ task.op_kwargs['result']['pair'] }}"  # what the grid calls a mapped index

DOC = """
### From closed candles to served forecasts

Each hour, for every pair: **fetch** closed candles into S3 → **train** on Ray (features, sequences, split, scale,
train, convert, validate, upload, clean: the steps are in that task's log) → **check** the new model → **promote** it
if it beats the champion on the same held-out weeks → **refresh serving** → **report**.

A run sees candles closed at or before its `as_of` and nothing else: the end of its data interval, or what the trigger
form says. A pair that fails is reported to Discord and fails alone; the others are trained and served.
"""


@dag(
    schedule=CronDataIntervalTimetable("0 * * * *", timezone="UTC"),
    **TRAINING_DAG,
    doc_md=DOC,
    tags=["forecasting", "hourly"],
)
def train_pairs() -> None:
    plan = plan_run()
    fetched = fetch.expand(item=plan)
    batches = batch(plan, fetched)
    jobs = RayJobOperator.partial(
        task_id="train", map_index_template="{{ task.metadata['pairs'] }}", retries=1
    ).expand_kwargs(batches)
    judged = judge.expand(result=collect(batches, jobs.output))
    served = refresh_serving()
    [plan, judged] >> served >> report(plan)


@task(trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS)
def batch(plan: list[dict[str, Any]], fetched: list[str]) -> list[dict[str, Any]]:
    """Share the pairs whose candles arrived among Ray jobs: starting one costs seconds, a pair in it much less."""
    pairs = trainable(plan, fetched)
    shares = [pairs[start : start + _PAIRS_PER_JOB] for start in range(0, len(pairs), _PAIRS_PER_JOB)]
    return [
        {
            "entrypoint": job_command(
                "ray_jobs.train_pairs", share, plan[0]["interval"], plan[0]["as_of_ms"]
            ),
            "metadata": {"pairs": ",".join(share)},
        }
        for share in shares
    ]


@task(trigger_rule=TriggerRule.ALL_DONE)
def collect(batches: list[dict[str, Any]] | None, submission_ids: list[str]) -> list[dict[str, Any]]:
    """The row that each pair ended with; a pair without one was in a job that broke."""
    from make_us_rich.market.store import CandleStore

    if batches is None:
        raise AirflowSkipException("nothing was trained")
    store = CandleStore.from_settings(_SETTINGS)
    rows = [store.get_json(key) for job in submission_ids for key in store.list_keys(f"jobs/{job}/")]
    ended = {row["pair"] for row in rows}
    pairs = [pair for batch in batches for pair in batch["metadata"]["pairs"].split(",")]
    lost = [pair for pair in pairs if pair not in ended]
    reason = "its Ray job ended without a result for it: see the train task's log"
    return rows + [{"pair": pair, "status": "failed", "reason": reason} for pair in lost]


@task_group
def judge(result: dict[str, Any]) -> None:
    promote(result=validate(result=result))


@task(map_index_template=_RESULT_PAIR, retries=0)
def validate(result: dict[str, Any]) -> dict[str, Any]:
    """Refuse a model that failed its training or its checks; the champion serves on."""
    if result["status"] != "trained":
        raise AirflowFailException(result["reason"])
    metrics = result["metrics"]
    print(
        f"held-out skill against naive {metrics['skill_vs_naive']:+.2%}, "
        f"80 % band covers {metrics['coverage_80']:.1%}"
    )
    return result


@task(map_index_template=_RESULT_PAIR)
def promote(result: dict[str, Any], run_id: str | None = None) -> str:
    """Make the new model the champion if it beats the old one on the same held-out candles."""
    from make_us_rich import promotion
    from make_us_rich.registry import TAG_AIRFLOW_RUN, Registry

    with Registry(_SETTINGS.mlflow_url) as registry:
        where = f"train_pairs/runs/{run_id}"
        registry.set_tag(result["name"], result["version"], TAG_AIRFLOW_RUN, where)
        decision = promotion.promote(
            registry,
            _SETTINGS.database_url.get_secret_value(),
            registry.get(result["name"], result["version"]),
            promotion.Comparison(**result["comparison"]),
            expiry_hours=_SETTINGS.model_expiry_hours,
        )
    print(decision)
    return decision.reason


@task(trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS)
def refresh_serving() -> None:
    """Let the service swap to the champions of this moment."""
    from serve_app.deploy import apply

    print(apply(_SETTINGS))


train_pairs()
