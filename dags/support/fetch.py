"""Candles of the pairs of a run: fetched, or the reason why not."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg2
from airflow.sdk import task
from airflow.sdk.exceptions import AirflowSkipException

from dags.support.assets import CANDLES
from dags.support.mapped import PAIRS_LABEL, for_each_pair
from dags.support.typed import typed
from make_us_rich.core.errors import MakeUsRichError, PairNotTraded
from make_us_rich.core.interval import HOUR_MS
from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import get_settings
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from make_us_rich.documents import RunItem

_SETTINGS = get_settings()

MAX_FETCHES = 4  # at a time over all runs of a DAG, because the exchange limits the requests of one address
_PARK_AFTER_MS = 24 * HOUR_MS  # a shorter halt may be maintenance of the exchange


def store_candles(item: RunItem) -> None:
    """Store the closed candles of one pair that S3 lacks. Parks a pair that the exchange has not traded for a day."""
    from make_us_rich.market.candle_store import CandleStore
    from make_us_rich.market.exchange import ExchangeClient

    try:
        fetched = CandleStore.from_settings(_SETTINGS).update(
            ExchangeClient(_SETTINGS.exchange_url),
            market=_SETTINGS.market,
            pair=item.pair,
            interval=item.interval,
            as_of_ms=item.as_of_ms,
            history_candles=_SETTINGS.training_candles(item.interval),
        )
    except PairNotTraded as error:
        if item.train and error.idle_ms >= _PARK_AFTER_MS:
            with Database.from_settings(_SETTINGS) as database:
                pairs_table.park(database, item.pair, str(error))
            _deploy_the_parking()
            raise PairNotTraded(f"{error} It is parked: later runs leave it out until it is made active.") from None
        raise
    print(f"{item.pair}: {fetched}")


def _deploy_the_parking() -> None:
    """Stop serving the parked pair. If Ray Serve does not answer, the next deployment stops it."""
    from make_us_rich.pipeline.deployment import apply

    try:
        apply(_SETTINGS, wait=False)
    except (MakeUsRichError, psycopg2.Error) as error:
        print(f"the parked pair is served until the next deployment: {error}")


@task(map_index_template=PAIRS_LABEL, max_active_tis_per_dag=MAX_FETCHES, outlets=[CANDLES])
@typed
def fetch(items: list[RunItem]) -> list[Pair]:
    """Store the closed candles that S3 lacks. Parks a pair that the exchange has not traded for a day."""
    return for_each_pair(items, _fetch)


def _fetch(item: RunItem) -> tuple[str, Pair]:
    store_candles(item)
    return "fetched", item.pair


def trainable(items: Sequence[RunItem], fetched: Sequence[Pair]) -> list[RunItem]:
    """Return the items to train whose candles were fetched. Skips the task if there are none."""
    found = [item for item in items if item.train and item.pair in fetched]
    if not found:
        raise AirflowSkipException("no pair's candles could be fetched: see the fetch tasks")
    return found
