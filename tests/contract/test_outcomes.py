"""Outcomes of served forecasts and the losses of the baselines as of the same time, from a real Postgres and S3."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import Pair
from make_us_rich.database import outcomes
from make_us_rich.database.outcomes import ScoredForecasts
from make_us_rich.database.pool import Database
from make_us_rich.documents import HORIZON_GRID
from make_us_rich.forecasting import baselines, live_baselines
from make_us_rich.forecasting.evaluation import pinball
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.market.candles import Candles
from make_us_rich.market.object_store import ObjectStore
from make_us_rich.record import outcomes as record_outcomes
from make_us_rich.record.outcomes import record
from make_us_rich.record.track_record import track_record
from tests.support.servers import S3_KEYS, migrated_database, s3_server
from tests.support.track_record import serve_forecasts

pytestmark = pytest.mark.timeout(120)

DAY_MS = 24 * HOUR_MS
START_MS = 1_700_006_400_000  # 2023-11-15 00:00 UTC
PAST = 600
HOURS = 60


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with migrated_database() as url, Database(url) as opened:
        yield opened


@pytest.fixture(scope="module")
def store() -> Iterator[CandleStore]:
    with s3_server() as server:
        objects = ObjectStore(server, *S3_KEYS, "outcomes")
        objects.ensure_bucket()
        yield CandleStore(objects)


def test_outcomes_are_stored_once_and_baselines_know_no_later_candle(database: Database, store: CandleStore) -> None:
    pair = Pair("btc", "usdt")
    closes = _closes()
    _store(store, pair, closes, range(PAST + 31))
    _serve(database, pair, closes, range(HOURS))

    assert _record(database, store, pair, START_MS + 30 * HOUR_MS) == 30
    early = {h: _scored(database, pair, h) for h in HORIZON_GRID}
    assert [len(early[h]) for h in HORIZON_GRID] == [31 - h for h in HORIZON_GRID]

    changed = closes.copy()
    changed[PAST + 31 :] *= 1.5  # the hours that come later
    _store(store, pair, changed, range(PAST + 31, len(closes)))
    assert _record(database, store, pair, START_MS + (HOURS + 24) * HOUR_MS) == HOURS - 7
    assert _record(database, store, pair, START_MS + (HOURS + 24) * HOUR_MS) == 0
    for horizon, before in early.items():
        after = _scored(database, pair, horizon)
        assert len(after) == HOURS
        first = slice(0, len(before))
        assert np.array_equal(after.close[first], before.close)
        assert np.array_equal(after.baseline_losses[first], before.baseline_losses)
        assert np.isfinite(after.baseline_losses).all()

    # the same by hand, for the forecast of 02:00 on the second day, 4 hours ahead
    found = _scored(database, pair, 4)
    row = 26
    assert found.as_of_ms[row] == START_MS + 26 * HOUR_MS
    assert found.target_close_ms[row] == START_MS + 30 * HOUR_MS
    assert found.close[row] == closes[PAST + 30]
    returns = np.diff(np.log(closes))
    past, since = returns[: PAST + 24], returns[PAST + 24 : PAST + 26]
    actual = np.array([np.log(closes[PAST + 30] / closes[PAST + 26])])
    for column, forecast in enumerate((baselines.naive, baselines.ewma, baselines.garch_t)):
        expected = forecast(past, np.append(since, 9.9), (4,))[2]
        assert found.baseline_losses[row, column] == pytest.approx(pinball(expected, actual)[0], rel=1e-4)


def test_what_was_not_forecast_in_time_is_no_part_of_the_record(database: Database, store: CandleStore) -> None:
    """A backfill's forecasts, late ones, and a second model's of the same time are left out; gaps are given up."""
    pair = Pair("eth", "usdt")
    closes = _closes()
    hours = [hour for hour in range(len(closes)) if hour != PAST + 10]
    _store(store, pair, closes, hours)
    _serve(database, pair, closes, range(4, 40))
    _serve(database, pair, closes, range(40), version=2, delay_s=60)
    _serve(database, pair, closes, [2], version=3, delay_s=3600)
    with database.transaction() as cursor:
        cursor.execute(
            "UPDATE forecasts SET backfilled = true WHERE pair = 'eth_usdt' AND target_open_ms = %s", (START_MS,)
        )
        cursor.execute(
            "DELETE FROM forecasts WHERE pair = 'eth_usdt' AND target_open_ms = %s AND model_version = 2",
            (START_MS + 2 * HOUR_MS,),
        )

    _record(database, store, pair, START_MS + 70 * HOUR_MS)

    found = _scored(database, pair, 1)
    served = [hour for hour in range(40) if hour not in (0, 2, 9)]  # the candle after hour 9 is missing
    assert ((found.as_of_ms - START_MS) // HOUR_MS).tolist() == served
    assert found.version.tolist() == [2 if hour < 4 else 1 for hour in served]
    (series,) = [each for each in outcomes.scored_series(database, market="binance") if each.pair == pair]
    assert (series.n, series.first_as_of_ms) == (len(served), START_MS + HOUR_MS)
    assert _record(database, store, pair, START_MS + 71 * HOUR_MS) == 5, "whose target at one horizon is the gap"
    assert _record(database, store, pair, START_MS + 30 * DAY_MS) == 5
    assert _record(database, store, pair, START_MS + 31 * DAY_MS) == 0


def test_a_backfilled_forecast_is_never_shown_even_with_an_outcome(database: Database, store: CandleStore) -> None:
    pair = Pair("xrp", "usdt")
    closes = _closes()
    _store(store, pair, closes, range(len(closes)))
    _serve(database, pair, closes, range(40))
    _record(database, store, pair, START_MS + 70 * HOUR_MS)
    backfilled = [START_MS + hour * HOUR_MS for hour in (3, 20, 39)]
    with database.transaction() as cursor:
        cursor.execute(
            "UPDATE forecasts SET backfilled = true WHERE pair = 'xrp_usdt' AND target_open_ms = ANY(%s)", (backfilled,)
        )

    found = _scored(database, pair, 1)
    record = track_record(pair, found)
    assert record is not None
    shown = [each.target_close_ms - HOUR_MS for each in record.recent]
    assert shown == [START_MS + hour * HOUR_MS for hour in range(40) if hour not in (3, 20, 39)]
    (series,) = [each for each in outcomes.scored_series(database, market="binance") if each.pair == pair]
    assert (series.n, series.last_as_of_ms) == (37, START_MS + 38 * HOUR_MS)


def test_rows_of_another_grid_of_horizons_are_read_by_their_own(
    database: Database, store: CandleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = Pair("ltc", "usdt")
    closes = _closes()
    _store(store, pair, closes, range(len(closes)))
    _serve(database, pair, closes, range(40))
    with monkeypatch.context() as older:
        for module in (record_outcomes, live_baselines):
            older.setattr(module, "HORIZON_GRID", (1, 5, 24))
        _record(database, store, pair, START_MS + 30 * HOUR_MS)
    _record(database, store, pair, START_MS + 70 * HOUR_MS)

    hours = {1: range(40), 4: range(7, 40), 5: range(26), 24: range(40)}  # the first seven were complete before
    for horizon, served in hours.items():
        found = _scored(database, pair, horizon)
        assert ((found.as_of_ms - START_MS) // HOUR_MS).tolist() == list(served)
        assert found.close.tolist() == [closes[PAST + hour + horizon] for hour in served]
        assert np.isfinite(found.baseline_losses).all()
        assert found.skipped == 0


def test_a_longer_backlog_begins_with_the_newest_forecasts(
    database: Database, store: CandleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = Pair("sol", "usdt")
    closes = _closes()
    _store(store, pair, closes, range(len(closes)))
    _serve(database, pair, closes, range(40))
    monkeypatch.setattr(record_outcomes, "_AT_ONCE", 25)

    assert _record(database, store, pair, START_MS + 70 * HOUR_MS) == 25
    assert _scored(database, pair, 1).as_of_ms[0] == START_MS + 15 * HOUR_MS
    assert _record(database, store, pair, START_MS + 70 * HOUR_MS) == 15


def test_baselines_need_candles_to_be_fitted_on(database: Database, store: CandleStore) -> None:
    young, flat = Pair("new", "usdt"), Pair("flat", "usdt")
    closes = _closes()
    _store(store, young, closes, range(PAST - 100, len(closes)))
    _store(store, flat, np.full(len(closes), 1.0), range(len(closes)))
    for pair in (young, flat):
        _serve(database, pair, closes, range(3))
        assert _record(database, store, pair, START_MS + 40 * HOUR_MS) == 3
        found = _scored(database, pair, 1)
        assert len(found) == 3
        assert np.isnan(found.baseline_losses).all()


def _closes() -> np.ndarray:
    """Return PAST closes up to START_MS, then HOURS + 24 more, of a random walk."""
    return 100 * np.exp(np.cumsum(np.random.default_rng(3).normal(0, 0.01, PAST + HOURS + 25)))


def _store(store: CandleStore, pair: Pair, closes: np.ndarray, rows: Sequence[int]) -> None:
    """Store the candles whose closes are these rows; row PAST closes at START_MS."""
    chosen = np.array(rows)
    times = START_MS + (chosen - PAST - 1) * HOUR_MS
    kept = closes[chosen]
    store.write("binance", pair, Interval.H1, Candles(times, kept, kept, kept, kept, kept))


def _serve(
    database: Database, pair: Pair, closes: np.ndarray, hours: Sequence[int], version: int = 1, delay_s: int = 20
) -> None:
    as_of_ms = [START_MS + hour * HOUR_MS for hour in hours]
    last = [float(closes[PAST + hour]) for hour in hours]
    serve_forecasts(database, pair, as_of_ms, last, version=version, delay_s=delay_s)


def _record(database: Database, store: CandleStore, pair: Pair, as_of_ms: int) -> int:
    return record(database, store, market="binance", pair=pair, interval=Interval.H1, as_of_ms=as_of_ms)


def _scored(database: Database, pair: Pair, horizon: int) -> ScoredForecasts:
    return outcomes.scored(database, market="binance", pair=pair, interval=Interval.H1, horizon=horizon)
