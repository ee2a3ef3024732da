"""Train the foundation model, which each pair's model is fine-tuned from, each week."""

from __future__ import annotations

from airflow.sdk import DAG, CronDataIntervalTimetable, Param, get_current_context, task

from dags.support.alerts import PairsFailed, report
from dags.support.assets import CANDLES, FOUNDATION
from dags.support.fetch import trainable
from dags.support.operator import RayJobOperator, job_command
from dags.support.run_scope import OFFERED_PAIRS, planned, training_dag
from dags.support.typed import typed
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import BITCOIN
from make_us_rich.core.settings import get_settings
from make_us_rich.documents import FetchedPairs, RunItem
from make_us_rich.pipeline.airflow import dag_of

_SETTINGS = get_settings()

# One after another, because they share the workers.
_SCHEDULES = {
    Interval.H1: "30 2 * * 1",
    Interval.H4: "30 3 * * 1",
    Interval.D1: "30 4 * * 1",
    Interval.M15: "30 5 * * 1",
}
DOC = """
### One model of the whole market

Each Monday one network is trained on the candles of the `MUR_FOUNDATION_PAIRS` most traded USDT pairs of the exchange,
served or not, and registered as `foundation_1h`. **plan run** ranks them by the quote volume of the history that is
trained on, as of the run, without stablecoins and leveraged tokens. **fetch_all** stores their candles, one pair after
another so that the exchange's rate limit is kept; its log shows the progress, and an aborted fetch resumes. A pair that
fails is reported by **check_fetched**, and the others are trained. **train_pairs** fine-tunes the foundation for each
pair, which is faster and better than training from scratch; until the first foundation exists, it trains from scratch.

Each interval of `MUR_INTERVALS` has a DAG and a model of its own: `train_foundation_4h` trains `foundation_4h`.
"""


def train_foundation(interval: Interval) -> None:
    """Create the DAG of one interval."""

    with DAG(
        dag_id=dag_of("train_foundation", interval),
        schedule=CronDataIntervalTimetable(_SCHEDULES[interval], timezone="UTC"),
        **training_dag(
            pairs=Param(
                [],
                type="array",
                items={"type": "string"},
                examples=OFFERED_PAIRS,
                description="pairs to learn from; empty: the most traded ones of the exchange",
            )
        ),
        doc_md=DOC,
        tags=["forecasting", interval.value, "weekly"],
    ):
        items = plan_run(interval.value)
        fetched = fetch_all(items)
        trained = RayJobOperator(
            task_id="train", entrypoint=command(items, fetched), inlets=[CANDLES], outlets=[FOUNDATION]
        )
        [trained, check_fetched(fetched)] >> report(items)


@task
@typed
def plan_run(interval: Interval) -> list[RunItem]:
    """Return the pairs that the form names, or else the most traded ones of the exchange, and BTC."""
    from make_us_rich.market.exchange import ExchangeClient
    from make_us_rich.market.object_store import ObjectStore
    from make_us_rich.market.universe import choose_universe

    items = planned(interval)
    if get_current_context()["params"]["pairs"]:
        return items
    as_of_ms = items[0].as_of_ms
    universe = choose_universe(
        ExchangeClient(_SETTINGS.exchange_url),
        ObjectStore.from_settings(_SETTINGS),
        market=_SETTINGS.market,
        interval=interval,
        as_of_ms=as_of_ms,
        history_candles=_SETTINGS.training_candles(interval),
        count=_SETTINGS.foundation_pairs,
    )
    chosen = [item.pair for item in universe.chosen]
    return [
        RunItem(pair=pair, interval=interval, as_of_ms=as_of_ms, train=pair in chosen)
        for pair in sorted({*chosen, BITCOIN})
    ]


@task(outlets=[CANDLES])
@typed
def fetch_all(items: list[RunItem]) -> FetchedPairs:
    """Store the closed candles of all pairs that S3 lacks.

    One task, because fetching a week of a pair takes less than starting a task for it.
    """
    from make_us_rich.market.candle_store import CandleStore
    from make_us_rich.market.exchange import ExchangeClient
    from make_us_rich.market.universe import fetch_universe

    return fetch_universe(
        ExchangeClient(_SETTINGS.exchange_url),
        CandleStore.from_settings(_SETTINGS),
        [item.pair for item in items],
        market=_SETTINGS.market,
        interval=items[0].interval,
        as_of_ms=items[0].as_of_ms,
        history_candles=_SETTINGS.training_candles(items[0].interval),
    )


@task
@typed
def command(items: list[RunItem], fetched: FetchedPairs) -> str:
    """Return the command line of the job, for the pairs whose candles were fetched."""
    return job_command("ray_jobs.train_foundation", trainable(items, fetched.fetched))


@task(retries=0)
@typed
def check_fetched(fetched: FetchedPairs) -> None:
    """Fail for the pairs whose candles could not be fetched; the others are trained all the same."""
    if fetched.failed:
        raise PairsFailed({str(pair): reason for pair, reason in fetched.failed.items()})


for each in _SETTINGS.intervals:
    train_foundation(each)
