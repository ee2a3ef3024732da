"""The figures of the track record, and how often their intervals hold the truth."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from scipy.stats import t as student_t

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN
from make_us_rich.database.outcomes import ScoredForecasts
from make_us_rich.documents import QUANTILE_LEVELS
from make_us_rich.forecasting.evaluation import pinball
from make_us_rich.record.figures import skill, student_quantile
from make_us_rich.record.schedules import first_scoring_ms, scoring_cron
from make_us_rich.record.track_record import RECENT, TrackRecord, track_record

MONDAY_MS = 1_700_438_400_000  # 2023-11-20 00:00 UTC
SCORES = np.array([-1.645, -1.282, -0.674, 0.0, 0.674, 1.282, 1.645])


def test_each_close_counts_in_the_week_in_which_it_came() -> None:
    record = _record(np.zeros(24 * 7 + 12), first_ms=MONDAY_MS - 13 * HOUR_MS)

    assert [(week.monday, week.coverage.n) for week in record.weeks] == [
        (date(2023, 11, 13), 13),
        (date(2023, 11, 20), 24 * 7 - 1),
    ]
    assert (record.n, record.coverage.value, record.misses) == (180, 1.0, ())
    assert record.first_made_at == datetime.fromtimestamp(MONDAY_MS / 1000 - 13 * 3600 + 20, UTC)


def test_a_good_forecaster_is_called_good_and_a_bad_one_is_not() -> None:
    moves = np.random.default_rng(4).standard_normal(2000)
    good, narrow = _record(moves), _record(moves * 2)

    assert good.coverage.low < 0.8 < good.coverage.high
    assert all(share.low < level < share.high for share, level in zip(good.reliability, QUANTILE_LEVELS, strict=True))
    assert sum(good.pit.counts) == 2000
    assert sum(not good.pit.low <= count <= good.pit.high for count in good.pit.counts) <= 1
    assert narrow.coverage.high < 0.7
    assert narrow.pit.counts[0] > narrow.pit.high < narrow.pit.counts[-1]
    naive, ewma = good.skills
    assert (naive.baseline, ewma.baseline, ewma.n) == ("naive", "EWMA", 1900)
    assert naive.margin is not None
    assert naive.value > naive.margin > 0
    assert ([use.version for use in good.models], good.by_foundation) == ([9, 7], 0.5)


def test_the_worst_misses_are_those_of_different_moves() -> None:
    """One jump makes every forecast over it miss: it is shown once."""
    moves = np.zeros(200)
    moves[100:108], moves[150], moves[160] = 9.0, -5.0, 1.2
    record = _record(moves, horizon=8)

    assert [round(miss.beyond, 3) for miss in record.misses] == [
        round(np.exp(0.09 - 0.01282) - 1, 3),
        round(np.exp(-0.05 + 0.01282) - 1, 3),
    ]
    assert record.misses[0].close > record.misses[0].high
    assert record.misses[1].close < record.misses[1].low
    assert record.independent == 25


@pytest.mark.parametrize("horizon", [1, 8, 24])
def test_the_intervals_hold_the_truth_about_as_often_as_they_say(horizon: int) -> None:
    """Two forecasters that are equally good, and a band that holds 80 %, on targets that overlap."""
    random = np.random.default_rng(horizon)
    n, runs = 20 * horizon + 100, 200
    margins, shares = [], []
    for _ in range(runs):
        moves = np.convolve(random.standard_normal(n + horizon), np.ones(horizon), "valid")[:n] / np.sqrt(horizon)
        ours, theirs = (pinball(np.tile(SCORES + shift, (n, 1)), moves) for shift in (0.1, -0.1))
        found = skill(ours, theirs, horizon=horizon, baseline="naive")
        assert found.margin is not None
        margins.append(abs(found.value) <= found.margin)
        coverage = _record(moves, horizon=horizon).coverage
        shares.append(coverage.low <= 0.8 <= coverage.high)

    assert 0.85 <= np.mean(margins) <= 0.98
    assert np.mean(shares) >= 0.92


def test_the_newest_closes_are_shown_with_their_bands() -> None:
    moves = np.zeros(200)
    moves[10], moves[150], moves[199] = 5.0, 5.0, -1.3
    record = _record(moves, horizon=8)

    recent = record.recent
    assert len(recent) == RECENT == 168
    assert recent[-1].target_close_ms == record.last_close_ms
    assert [each.target_close_ms for each in recent] == sorted(each.target_close_ms for each in recent)
    assert [index + 32 for index, each in enumerate(recent) if not each.inside] == [150, 199]
    newest = recent[-1]
    assert newest.close < newest.low < newest.median < newest.high
    assert newest.high == pytest.approx(100 * np.exp(0.01282))
    assert len(_record(np.zeros(5)).recent) == 5


def test_the_models_that_forecast_are_listed_newest_first() -> None:
    moves = np.zeros(40)
    newest, oldest = _record(moves, horizon=2).models
    assert (newest.version, newest.foundation, newest.n) == (9, False, 20)
    assert (oldest.version, oldest.foundation, oldest.n) == (7, True, 20)
    assert oldest.first_close_ms == MONDAY_MS + 2 * HOUR_MS
    assert newest.first_close_ms == oldest.last_close_ms + HOUR_MS
    assert newest.last_close_ms == MONDAY_MS + 41 * HOUR_MS


def test_few_forecasts_get_no_margin() -> None:
    losses = np.ones(50)
    assert skill(losses, losses * 2, horizon=8, baseline="naive").margin is None
    assert skill(losses, losses * 2, horizon=5, baseline="naive").margin == 0.0


@pytest.mark.parametrize("freedom", [9, 20, 500])
def test_students_quantile(freedom: int) -> None:
    assert student_quantile(freedom) == pytest.approx(student_t.ppf(0.975, freedom), rel=1e-3)


def test_nothing_is_said_of_nothing() -> None:
    empty = _scored(np.zeros(0))
    assert track_record(BITCOIN, empty) is None


@pytest.mark.parametrize(
    ("interval", "cron"), [(Interval.M15, "5 */2 * * *"), (Interval.H1, "20 */6 * * *"), (Interval.D1, "30 0 * * *")]
)
def test_the_announced_time_is_that_of_the_schedule(interval: Interval, cron: str) -> None:
    assert scoring_cron(interval) == cron
    minute, hour = cron.split()[:2]
    every = int(hour.removeprefix("*/")) or 24
    for after in range(0, 48 * 60, 7):
        moment = datetime.fromtimestamp(MONDAY_MS / 1000, UTC) + timedelta(minutes=after)
        expected = moment.replace(minute=0)
        while not (expected.hour % every == 0 and expected + timedelta(minutes=int(minute)) > moment):
            expected += timedelta(hours=1)
        expected += timedelta(minutes=int(minute))
        assert first_scoring_ms(interval, int(moment.timestamp() * 1000)) == expected.timestamp() * 1000


def _record(moves: np.ndarray, horizon: int = 1, first_ms: int = MONDAY_MS) -> TrackRecord:
    found = track_record(BITCOIN, _scored(moves, horizon, first_ms))
    assert found is not None
    return found


def _scored(moves: np.ndarray, horizon: int = 1, first_ms: int = MONDAY_MS) -> ScoredForecasts:
    """Return hourly forecasts of a normal log return with a deviation of 1 %; moves: the returns in deviations.

    naive knows a band twice as wide; EWMA is equal, but unknown for the first hundred; GARCH is never known.
    """
    n = len(moves)
    as_of_ms = first_ms + HOUR_MS * np.arange(n)
    bands = np.tile(SCORES * 0.01, (n, 1))
    naive, ewma = pinball(bands * 2, moves * 0.01), pinball(bands, moves * 0.01)
    ewma[:100] = np.nan
    return ScoredForecasts(
        Interval.H1,
        horizon,
        as_of_ms,
        [datetime.fromtimestamp(time_ms / 1000 + 20, UTC) for time_ms in as_of_ms.tolist()],
        np.where(np.arange(n) < n // 2, 7, 9),
        np.arange(n) < n // 2,
        np.full(n, 100.0),
        100 * np.exp(moves * 0.01),
        100 * np.exp(bands),
        np.stack([naive, ewma, np.full(n, np.nan)], axis=1),
    )
