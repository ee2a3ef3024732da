"""The table `forecasts` in a real Postgres: every horizon of a forecast, old rows, and how much a row needs."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from psycopg2 import errors as pg_errors

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import Pair
from make_us_rich.database import forecast_logs, forecasts, outcomes
from make_us_rich.database.migrations import SQL_FOLDER, migrate
from make_us_rich.database.pool import Database
from make_us_rich.documents import HORIZON_GRID, HORIZONS, JobResult, PastForecast, Quantiles
from make_us_rich.operations.housekeeping import delete_rows
from tests.support.accounts import transaction
from tests.support.documentation import sizing_bytes
from tests.support.servers import empty_database, migrated_database

pytestmark = pytest.mark.timeout(120)

BITCOIN = Pair("btc", "usdt")
AS_OF_MS = 1_700_049_600_000
_OF_HORIZONS = ("0022", "0023")  # the migrations of rows that do not say of which horizons they are
LOG_RETURNS = np.array([-3.0, -2.0, -1.0, 0.1, 1.0, 2.0, 3.0]) / 100
_COLUMNS = (
    "market, pair, interval, target_open_ms, model_version, as_of_ms, last_close, q05, q10, q25, q50, q75, q90, q95"
)


@pytest.fixture
def url() -> Iterator[str]:
    with migrated_database() as server:
        yield server


def test_the_forecasts_of_each_horizon_are_read_when_their_close_came(url: str) -> None:
    for hour in range(5):
        _record(url, AS_OF_MS + hour * HOUR_MS, HORIZONS)
    now_ms = AS_OF_MS + 4 * HOUR_MS

    assert [item.target_close_ms for item in _past(url, now_ms, 1)] == [now_ms - h * HOUR_MS for h in range(4)]
    third = _past(url, now_ms, 3)
    assert [item.target_close_ms for item in third] == [now_ms, now_ms - HOUR_MS]
    assert [item.target_open_ms for item in third] == [now_ms - HOUR_MS, now_ms - 2 * HOUR_MS]
    assert all(dict(item.quantiles) == pytest.approx(dict(_quantiles(3)), rel=1e-6) for item in third)
    assert _past(url, now_ms, 5) == []
    assert len(_past(url, now_ms + 20 * HOUR_MS, HORIZONS)) == 1


def test_rows_of_older_versions_are_migrated(tmp_path: Path) -> None:
    """A forecast of the next close alone, one of all horizons, and an outcome whose horizons nothing names yet."""
    next_close = [100.5, 101.25, 102.0, 103.125, 104.0, 105.0, 106.0]
    of_horizons = [next_close] * HORIZONS
    row = ("binance", BITCOIN, "1h", AS_OF_MS, 1, AS_OF_MS, 100.0, *next_close)
    values = ", ".join(["%s"] * 14)
    with empty_database() as url:
        migrate(url, _migrations_without(_OF_HORIZONS, tmp_path))
        with transaction(url) as cursor:
            cursor.execute(f"INSERT INTO forecasts ({_COLUMNS}) VALUES ({values})", row)
            cursor.execute(
                f"INSERT INTO forecasts ({_COLUMNS}, horizon_quantiles) VALUES ({values}, %s::real[])",
                (*row[:3], AS_OF_MS + HOUR_MS, 1, AS_OF_MS + HOUR_MS, *row[6:], of_horizons),
            )
            cursor.execute("UPDATE forecasts SET made_at = to_timestamp(as_of_ms / 1000.0)")
            cursor.execute(
                "INSERT INTO outcomes SELECT forecast_id, ARRAY[105.5, 106, 107, 108, 109, 110, 111, 'NaN', 'NaN'],"
                f" {', '.join(['array_fill(0.001::real, ARRAY[9])'] * 3)}, false FROM forecasts ORDER BY 1"
            )
        migrate(url)

        with transaction(url) as cursor:
            cursor.execute("SELECT horizon_quantiles FROM forecasts ORDER BY target_open_ms")
            assert cursor.fetchall() == [([next_close],), (of_horizons,)]
        later = AS_OF_MS + 48 * HOUR_MS
        assert [item.quantiles.prices() for item in _past(url, later, 1)] == [next_close] * 2
        assert [item.target_open_ms for item in _past(url, later, 2)] == [AS_OF_MS + 2 * HOUR_MS]
        with Database(url) as database:
            series: dict[str, Any] = {"market": "binance", "pair": BITCOIN, "interval": Interval.H1}
            found = {h: outcomes.scored(database, **series, horizon=h) for h in (1, 12, 18)}
        assert found[1].close.tolist() == [105.5, 105.5]
        assert (found[12].close.tolist(), found[12].skipped) == ([111.0], 0)
        assert (len(found[18]), found[18].skipped) == (0, 1)
        with pytest.raises(pg_errors.CheckViolation), transaction(url) as cursor:
            cursor.execute(f"INSERT INTO forecasts ({_COLUMNS}) VALUES ({values})", (*row[:4], 2, *row[5:]))


@pytest.mark.parametrize("number", _OF_HORIZONS)
def test_others_read_and_record_forecasts_while_a_migration_reads_the_whole_table(number: str, tmp_path: Path) -> None:
    """The first statement of both is the long one; a lock that it took would be held until the end of the migration."""
    (file,) = SQL_FOLDER.glob(f"{number}_*.sql")
    long_statement = file.read_text().partition("-- migrate:up")[2].partition(";")[0]
    with empty_database() as url:
        migrate(url, _migrations_without(_OF_HORIZONS[_OF_HORIZONS.index(number) :], tmp_path))
        _record(url, AS_OF_MS, HORIZONS)
        with transaction(url) as cursor:
            cursor.execute(long_statement)
            _record(url, AS_OF_MS + HOUR_MS, HORIZONS)
            assert len(_past(url, AS_OF_MS + 48 * HOUR_MS, 1)) == 2


def test_of_two_models_the_first_one_with_the_horizon_counts_as_in_the_track_record(url: str) -> None:
    _record(url, AS_OF_MS, 2, version=1)
    _record(url, AS_OF_MS, HORIZONS, version=2)
    _record(url, AS_OF_MS, HORIZONS, version=2)

    versions = {h: [item.model_version for item in _past(url, AS_OF_MS + 48 * HOUR_MS, h)] for h in (1, 2, 3)}
    assert versions == {1: [1], 2: [1], 3: [2]}


def test_a_backfilled_forecast_is_marked_and_never_hides_a_served_one(url: str) -> None:
    _record(url, AS_OF_MS, 2, version=1)
    _record(url, AS_OF_MS, 2, version=2, backfilled=True)
    _record(url, AS_OF_MS - HOUR_MS, 2, version=2, backfilled=True)

    past = _past(url, AS_OF_MS + 48 * HOUR_MS, 1)
    assert [(item.model_version, item.backfilled) for item in past] == [(1, False), (2, True)]
    with Database(url) as database:
        scored = forecasts.first_as_of_each_time(
            database, market="binance", pair=BITCOIN, interval=Interval.H1, first_ms=0, last_ms=AS_OF_MS
        )
    assert [item.as_of_ms for item in scored] == [AS_OF_MS]


def test_a_forecast_that_comes_after_its_close_is_neither_recorded_nor_read(url: str) -> None:
    """A replica was late, or Postgres was away until the close. Rows of older versions hold such forecasts."""
    series: dict[str, Any] = {"market": "binance", "pair": BITCOIN, "interval": Interval.H1}
    now_ms = time.time_ns() // 1_000_000
    with Database(url) as database:
        for interval in Interval:
            for candles_ago, in_time in ((0.5, True), (1.1, False)):
                recorded = forecasts.record(
                    database,
                    [_quantiles(1), _quantiles(2)],
                    **series | {"interval": interval},
                    as_of_ms=now_ms - int(candles_ago * interval.ms),
                    version=1,
                    last_close=100.0,
                )
                assert recorded is in_time, (interval, candles_ago)
        as_of_ms = now_ms - HOUR_MS // 2
        assert [item.target_open_ms for item in _past(url, now_ms + HOUR_MS, 1)] == [as_of_ms]

        with transaction(url) as cursor:
            cursor.execute("UPDATE forecasts SET made_at = to_timestamp(as_of_ms / 1000.0) + interval '61 minutes'")
        assert _past(url, now_ms + 2 * HOUR_MS, 1) == []
        assert _past(url, now_ms + 2 * HOUR_MS, 2) == [], "made before its second close, but after its first"
        assert forecasts.first_as_of_each_time(database, **series, first_ms=0, last_ms=now_ms) == []
        assert forecasts.served_versions(database, **series, as_of_ms=as_of_ms) == []
        days = {datetime.fromtimestamp((now_ms + hours * HOUR_MS) / 1000, UTC).date() for hours in range(-12, 2)}
        live = {item.interval for day in days for item in forecast_logs.live_forecasts(database, "binance", day)}
        assert live == {Interval.H2, Interval.H4, Interval.D1}


def test_the_versions_that_were_served_as_of_a_close_are_in_order_without_a_backfills(url: str) -> None:
    for version, backfilled in ((8, False), (9, True), (3, False), (8, False)):
        _record(url, AS_OF_MS, 2, version=version, backfilled=backfilled)
    _record(url, AS_OF_MS - HOUR_MS, 2, version=2)
    with Database(url) as database:
        served = forecasts.served_versions(
            database, market="binance", pair=BITCOIN, interval=Interval.H1, as_of_ms=AS_OF_MS
        )
    assert served == [(8, False), (3, False)]


@pytest.mark.parametrize("later", [(), (2, 3)])
def test_the_forecast_of_a_job_result_is_recorded_with_its_horizons(url: str, later: tuple[int, ...]) -> None:
    """A backfill reads the result from S3; a model of one horizon has no `later`."""
    forecast = dict(_quantiles(1)) | {"last_close": 100.0}
    if later:
        forecast["later"] = [dict(_quantiles(horizon)) for horizon in later]
    result = JobResult.model_validate_json(json.dumps({"pair": "btc_usdt", "status": "trained", "forecast": forecast}))
    assert result.forecast is not None
    assert JobResult.model_validate_json(result.model_dump_json(exclude_unset=True)) == result

    with Database(url) as database:
        forecasts.record(
            database,
            result.forecast.horizons,
            market="binance",
            pair=result.pair,
            interval=Interval.H1,
            as_of_ms=AS_OF_MS,
            version=1,
            last_close=result.forecast.last_close,
            made_at=datetime.fromtimestamp(AS_OF_MS / 1000 + 20, UTC),
        )

    with transaction(url) as cursor:
        cursor.execute("SELECT horizon_quantiles FROM forecasts")
        ((stored,),) = cursor.fetchall()
    assert np.array(stored) == pytest.approx(np.array([_quantiles(h).prices() for h in (1, *later)]), rel=1e-6)


@pytest.mark.parametrize("wrong", ["{{1,2,3}}", "{1,2,3,4,5,6,7}", "{}"])
def test_quantiles_of_another_shape_are_refused_by_the_table(url: str, wrong: str) -> None:
    _record(url, AS_OF_MS, HORIZONS)
    with pytest.raises(pg_errors.CheckViolation), transaction(url) as cursor:
        cursor.execute("UPDATE forecasts SET horizon_quantiles = %s", (wrong,))


def test_a_row_of_24_horizons_needs_what_the_sizing_page_says_and_housekeeping_deletes_it(url: str) -> None:
    """500 hours of 100 pairs, hour after hour, as serving writes them."""
    as_of_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000)
    _record(url, as_of_ms, HORIZONS)
    with transaction(url) as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        cursor.execute(
            f"INSERT INTO forecasts ({_COLUMNS}, horizon_quantiles, made_at) SELECT market, 'coin' || coin || '_usdt',"
            " interval, target_open_ms + hour * 3600000, model_version, as_of_ms + hour * 3600000, last_close,"
            " q05, q10, q25, q50, q75, q90, q95, horizon_quantiles, now() - hour * interval '1 hour'"
            " FROM forecasts, generate_series(1, 500) AS hour, generate_series(1, 100) AS coin ORDER BY hour, coin"
        )
        cursor.execute("SELECT pg_total_relation_size('forecasts'), count(*) FROM forecasts")
        size, rows = cursor.fetchone()
        closes, losses = (f"array_fill({value}, ARRAY[9])" for value in ("100.5::float8", "0.001::real"))
        horizons = f"'{{{', '.join(map(str, HORIZON_GRID))}}}'::smallint[]"
        cursor.execute(
            "INSERT INTO outcomes (forecast_id, horizons, closes, naive_losses, ewma_losses, garch_losses, complete)"
            f" SELECT forecast_id, {horizons}, {closes}, {losses}, {losses}, {losses}, true FROM forecasts"
        )
        cursor.execute("SELECT pg_total_relation_size('outcomes')")
        (outcomes_size,) = cursor.fetchone()
    print(f"{outcomes_size / rows:.0f} bytes for each outcome")
    print(
        f"{size / rows:.0f} bytes for each forecast, {size / rows * 100 * 8760 / 1e9:.2f} GB for 100 pairs and a year"
    )
    assert size / rows == pytest.approx(sizing_bytes("a forecast of 24 horizons in Postgres"), rel=0.03)
    assert outcomes_size / rows == pytest.approx(sizing_bytes("the outcome of a forecast"), rel=0.03)

    with Database(url) as database:
        assert delete_rows(database, "forecasts", datetime.now(UTC) - timedelta(hours=100.5), dry_run=False) == 40_000
    assert len(_past(url, as_of_ms + 48 * HOUR_MS, HORIZONS)) == 1
    with transaction(url) as cursor:
        cursor.execute("SELECT count(*) FROM outcomes")
        assert cursor.fetchone() == (10_001,), "a forecast's outcome goes with it"


def _migrations_without(numbers: Sequence[str], folder: Path) -> Path:
    """Copy all migrations but some to a folder."""
    for file in SQL_FOLDER.glob("*.sql"):
        if file.name[:4] not in numbers:
            shutil.copy(file, folder)
    return folder


def _quantiles(horizon: int) -> Quantiles:
    return Quantiles.of((100 * np.exp(LOG_RETURNS * horizon**0.5)).tolist())


def _record(url: str, as_of_ms: int, horizons: int, version: int = 1, *, backfilled: bool = False) -> None:
    with Database(url) as database:
        forecasts.record(
            database,
            [_quantiles(horizon) for horizon in range(1, horizons + 1)],
            market="binance",
            pair=BITCOIN,
            interval=Interval.H1,
            as_of_ms=as_of_ms,
            version=version,
            last_close=100.0,
            backfilled=backfilled,
            made_at=datetime.fromtimestamp(as_of_ms / 1000 + 20, UTC),
        )


def _past(url: str, closed_by_ms: int, horizon: int) -> list[PastForecast]:
    with Database(url) as database:
        return forecasts.past(
            database,
            market="binance",
            pair=BITCOIN,
            interval=Interval.H1,
            closed_by_ms=closed_by_ms,
            limit=100,
            horizon=horizon,
        )
