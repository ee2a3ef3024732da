"""The table `events` in a real Postgres: what becomes an event, and that its readers miss nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import Pair
from make_us_rich.database import events, outcomes, pairs
from make_us_rich.database.outcomes import AtHorizon, Outcome
from make_us_rich.database.pool import Database, connect
from make_us_rich.documents import HORIZON_GRID
from make_us_rich.operations import housekeeping
from tests.support.recorded_events import BITCOIN, ETHER, MARKET, newest_close_ms, read_events, record_forecast
from tests.support.servers import migrated_database
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(120)

_WAITING = (
    "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
    " WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()"
)
_UNKNOWN = float("nan")
SOLANA = Pair("sol", "usdt")


@pytest.fixture
def database() -> Iterator[Database]:
    with migrated_database() as url, Database(url) as opened:
        yield opened


def test_a_forecast_and_its_event_come_together_and_are_announced_by_the_id_alone(database: Database) -> None:
    with closing(connect(database._url)) as listener, listener.cursor() as cursor:
        cursor.execute(f"LISTEN {events.CHANNEL}")
        as_of_ms = record_forecast(database)
        cursor.execute("SELECT 1")
        (event,) = read_events(database)

        assert [(item.channel, item.payload) for item in listener.notifies] == [("events", str(event.event_id))]
    assert (event.kind, event.pair, event.interval) == ("forecast", BITCOIN, Interval.H1)
    assert event.forecast is not None
    assert (event.forecast.as_of_ms, event.forecast.version, event.forecast.last_close) == (as_of_ms, 1, 100.0)
    assert event.forecast.prices[1] == [94.0, 96.0, 98.0, 100.0, 102.0, 104.0, 106.0]


def test_what_nobody_was_served_and_what_is_repeated_is_no_event(database: Database) -> None:
    record_forecast(database)
    record_forecast(database)
    record_forecast(database, version=2, backfilled=True)
    late_ms = newest_close_ms() - HOUR_MS
    with database.transaction() as cursor:
        events.add(cursor, "forecast", market="binance", pair=BITCOIN, interval=Interval.H1, payload={})

    assert [item.event_id for item in read_events(database)] == [1], "events of another market, or of no forecast"
    record_forecast(database, as_of_ms=late_ms, version=3)
    assert len(read_events(database)) == 2, "a forecast that Postgres was away for is recorded in time, and an event"


def test_a_close_that_becomes_known_is_one_event_whoever_saves_it(database: Database) -> None:
    as_of_ms = newest_close_ms() - 5 * HOUR_MS
    record_forecast(database, as_of_ms=as_of_ms)
    forecast_id = read_events(database)[0].payload["forecast_id"]

    def save(*closes: float) -> None:
        at = {
            horizon: AtHorizon(close, _UNKNOWN, _UNKNOWN, _UNKNOWN)
            for horizon, close in zip(HORIZON_GRID, closes, strict=False)
        }
        outcomes.save(database, [Outcome(forecast_id, at, complete=False)])

    save(_UNKNOWN, 101.0)
    assert len(read_events(database, after=1)) == 0, "the next close is not known yet"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: save(103.0, 101.0), range(8)))
    save(103.0, 101.0, 99.0)

    (event,) = read_events(database, after=1)
    assert (event.kind, event.payload) == ("outcome", {"forecast_id": forecast_id, "close": 103.0})
    assert event.forecast is not None
    assert event.forecast.as_of_ms == as_of_ms


def test_a_champion_is_an_event_once_and_again_after_another_one(database: Database) -> None:
    def becomes_champion(version: int, previous: int | None) -> None:
        events.record_champion(
            database, market=MARKET, pair=BITCOIN, interval=Interval.H1, version=version, previous=previous
        )

    for version, previous in ((1, None), (1, None), (2, 1), (1, 2)):
        becomes_champion(version, previous)

    found = [(item.payload["version"], item.payload["previous"]) for item in read_events(database)]
    assert found == [(1, None), (2, 1), (1, 2)]


def test_a_stale_pair_is_an_event_once_for_each_forecast_that_it_is_left_with(database: Database) -> None:
    close_ms = newest_close_ms()
    pairs.seed(database, [BITCOIN, ETHER], [])
    pairs.put(database, ETHER, min_replicas=0)  # its process stops when nobody asks
    with database.transaction() as cursor:
        cursor.execute("UPDATE pairs SET changed_at = now() - interval '1 day'")
    pairs.put(database, SOLANA)  # it has just been added
    for pair in (BITCOIN, ETHER, SOLANA):
        record_forecast(database, pair, as_of_ms=close_ms - HOUR_MS)

    def stale_events() -> list[tuple[str, int]]:
        events.record_stale(database, market=MARKET, interval=Interval.H1, close_ms=close_ms)
        found = [item for item in read_events(database) if item.kind == "stale"]
        return [(item.pair, item.payload["as_of_ms"]) for item in found]

    assert stale_events() == [(BITCOIN, close_ms - HOUR_MS)]
    assert stale_events() == [(BITCOIN, close_ms - HOUR_MS)]
    record_forecast(database, as_of_ms=close_ms)
    assert len(stale_events()) == 1
    close_ms += HOUR_MS
    left = [(BITCOIN, close_ms - HOUR_MS), (SOLANA, close_ms - 2 * HOUR_MS)]
    assert stale_events() == [(BITCOIN, close_ms - 2 * HOUR_MS), *left]


def test_an_event_that_is_not_committed_holds_back_those_with_later_ids(database: Database) -> None:
    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as cursor:
            events.add(cursor, "stale", market=MARKET, pair=ETHER, interval=Interval.H1, payload={"as_of_ms": 1})
            second = pool.submit(record_forecast, database)
            wait_until(lambda: _waiting(database), 20, "the second one does not wait")
            assert read_events(database) == []
        second.result(20)

    found = read_events(database)
    assert [(item.event_id, item.kind) for item in found] == [(1, "stale"), (2, "forecast")]


def test_an_event_whose_transaction_fails_leaves_a_gap_and_holds_nobody_back(database: Database) -> None:
    def fail() -> None:
        with database.transaction() as cursor:
            events.add(cursor, "stale", market=MARKET, pair=ETHER, interval=Interval.H1, payload={"as_of_ms": 1})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    record_forecast(database)

    assert [item.event_id for item in read_events(database)] == [2]


def test_a_reader_that_goes_on_from_its_last_id_sees_every_event_of_many_writers_once(database: Database) -> None:
    done = threading.Event()

    def write(writer: int) -> None:
        for number in range(25):
            with database.transaction() as cursor:
                payload = {"as_of_ms": writer * 100 + number}
                events.add(cursor, "stale", market=MARKET, pair=BITCOIN, interval=Interval.H1, payload=payload)
                if number % 5 == writer % 5:
                    cursor.execute("SELECT pg_sleep(0.002)")

    def read() -> list[int]:
        seen: list[int] = []
        last = 0
        while True:
            is_last_round = done.is_set()
            for event in read_events(database, after=last):
                seen.append(event.payload["as_of_ms"])
                last = event.event_id
            if is_last_round:
                return seen

    with ThreadPoolExecutor(9) as pool:
        reader = pool.submit(read)
        list(pool.map(write, range(8)))
        done.set()
        seen = reader.result(60)

    assert sorted(seen) == sorted(writer * 100 + number for writer in range(8) for number in range(25))


def test_old_events_are_deleted_but_never_the_newest(database: Database) -> None:
    for version in (1, 2, 3):
        record_forecast(database, version=version)
    with database.transaction() as cursor:
        cursor.execute("UPDATE events SET at = now() - interval '8 days' WHERE event_id <> 2")
    before = datetime.now(UTC) - timedelta(days=7)

    assert housekeeping.delete_rows(database, "events", before, dry_run=True) == 1
    assert housekeeping.delete_rows(database, "events", before, dry_run=False) == 1
    assert [item.event_id for item in read_events(database)] == [2, 3]
    with database.transaction() as cursor:
        assert events.bounds(cursor) == (2, 3)


def _waiting(database: Database) -> bool:
    with database.transaction() as cursor:
        cursor.execute(_WAITING)
        return bool(cursor.fetchone()[0])
