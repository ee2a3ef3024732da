"""Scores of served forecasts, from a real Postgres and a real S3, and what the dashboard's pages read of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN, Pair
from make_us_rich.core.settings import Settings
from make_us_rich.database import forecasts, scores
from make_us_rich.database.pool import Database
from make_us_rich.documents import HORIZON_GRID, HORIZONS, HorizonScore, Quantiles, Score
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.market.candles import Candles
from make_us_rich.market.object_store import ObjectStore
from make_us_rich.pipeline.training_budget import TrainingNeeds
from make_us_rich.record import outcomes, scoring
from tests.support.servers import S3_KEYS, migrated_database, s3_server

pytestmark = pytest.mark.timeout(120)

NOON_MS = 1_700_049_600_000  # 2023-11-15 12:00 UTC
WEEK = 168
WEEK_MS = NOON_MS - WEEK * HOUR_MS
OTHER_MARKET = "recorded"
BAND = np.array([-1.645, -1.282, -0.674, 0.0, 0.674, 1.282, 1.645]) * 0.01


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with migrated_database() as server:
        yield server


def test_scores_of_other_markets_and_intervals_are_left_out(url: str) -> None:
    _keep(url, "binance", Interval.H1, skill=0.05, as_of_ms=NOON_MS)
    _keep(url, "simulated", Interval.H1, skill=0.50, as_of_ms=NOON_MS + HOUR_MS)
    _keep(url, "binance", Interval.H4, skill=-0.50, as_of_ms=NOON_MS + 2 * HOUR_MS, drifted=True)

    served = scores.latest(Database(url), market="binance", interval=Interval.H1, now_ms=NOON_MS)[str(BITCOIN)]

    assert (served.skill_vs_naive, served.drifted) == (0.05, False)
    assert [(item.horizon, item.skill_vs_naive) for item in served.horizons] == [(1, 0.05)]
    assert scores.latest(Database(url), market="recorded", interval=Interval.H1, now_ms=NOON_MS) == {}


def test_the_newest_score_of_a_day_is_kept(url: str) -> None:
    _keep(url, "binance", Interval.H1, skill=0.03, as_of_ms=NOON_MS + HOUR_MS)
    _keep(url, "binance", Interval.H1, skill=0.01, as_of_ms=NOON_MS)

    assert (
        scores.latest(Database(url), market="binance", interval=Interval.H1, now_ms=NOON_MS)[
            str(BITCOIN)
        ].skill_vs_naive
        == 0.03
    )


@pytest.mark.parametrize(
    ("interval", "days"), [(Interval.M15, 1.75), (Interval.H4, 7), (Interval.D1, 7)], ids=["15m", "4h", "1d"]
)
def test_the_score_of_a_pair_that_is_no_longer_scored_is_forgotten(url: str, interval: Interval, days: float) -> None:
    _keep(url, OTHER_MARKET, interval, skill=-0.5, as_of_ms=NOON_MS, drifted=True)
    over_ms = NOON_MS + int(days * 24 * HOUR_MS)
    settings = Settings(database_url=url, market=OTHER_MARKET)

    def drifting(now_ms: int) -> set[str]:
        with Database(url) as database:
            return set(TrainingNeeds.read(database, settings, interval, now_ms).drifting)

    assert drifting(over_ms - 1) == {BITCOIN}
    assert drifting(over_ms) == set()


@pytest.fixture(scope="module")
def store() -> Iterator[CandleStore]:
    with s3_server() as server:
        objects = ObjectStore(server, *S3_KEYS, "scores")
        objects.ensure_bucket()
        yield CandleStore(objects)


def test_every_stored_horizon_is_scored_once_its_close_is_known(url: str, store: CandleStore) -> None:
    pair = Pair("full", "usdt")
    closes = _store_candles(store, pair)
    _serve(url, pair, closes, range(WEEK), HORIZONS)

    score = _score(url, store, pair)

    assert [(item.horizon, item.n, item.skipped) for item in score.horizons] == [
        (horizon, WEEK - horizon + 1, 0) for horizon in HORIZON_GRID
    ]
    fourth = score.horizons[3]
    logs = np.log(closes)
    inside = [abs(logs[WEEK_AT + hour + 4] - logs[WEEK_AT + hour]) <= 2 * BAND[5] for hour in range(WEEK - 3)]
    assert fourth.horizon == 4
    assert fourth.coverage_80 == pytest.approx(np.mean(inside))
    assert (score.n, score.drifted) == (WEEK, False), score.reason
    assert score.skill_vs_naive == pytest.approx(np.mean([item.skill_vs_naive for item in score.horizons]))
    kept = scores.latest(Database(url), market="binance", interval=Interval.H1, now_ms=NOON_MS)[str(pair)]
    assert kept.horizons == score.horizons


def test_forecasts_of_a_missing_close_are_skipped_and_counted(url: str, store: CandleStore) -> None:
    """Candle 100 of the week is missing: each horizon loses the forecast of its close."""
    pair = Pair("gap", "usdt")
    closes = _store_candles(store, pair, missing=100)
    _serve(url, pair, closes, range(WEEK), HORIZONS)

    score = _score(url, store, pair)

    assert {item.horizon: (item.n, item.skipped) for item in score.horizons} == {
        horizon: (WEEK - horizon, 1) for horizon in HORIZON_GRID
    }


def test_a_close_that_is_not_stored_yet_is_no_gap(url: str, store: CandleStore) -> None:
    pair = Pair("late", "usdt")
    closes = _store_candles(store, pair, missing=WEEK - 1)
    _serve(url, pair, closes, range(WEEK), HORIZONS)

    score = _score(url, store, pair)

    assert [(item.n, item.skipped) for item in score.horizons] == [(WEEK - h, 0) for h in HORIZON_GRID]


def test_forecasts_of_the_next_close_alone_are_scored_at_that_horizon(url: str, store: CandleStore) -> None:
    """After a new model the newest forecasts have all horizons; the mean counts them once there are enough."""
    pair = Pair("old", "usdt")
    closes = _store_candles(store, pair)
    _serve(url, pair, closes, range(WEEK - 30), 1)
    (only,) = _score(url, store, pair).horizons
    assert (only.horizon, only.n) == (1, WEEK - 30)

    _serve(url, pair, closes, range(WEEK - 30, WEEK), HORIZONS)
    score = _score(url, store, pair)
    assert [item.n for item in score.horizons] == [WEEK, *(30 - horizon + 1 for horizon in HORIZON_GRID[1:])]
    assert score.skill_vs_naive == pytest.approx(np.mean([item.skill_vs_naive for item in score.horizons[:4]]))


WEEK_AT = 1440
"""Index of the close before the week; the candles before it are those that the naive forecast learns from."""


def _store_candles(store: CandleStore, pair: Pair, missing: int | None = None) -> np.ndarray:
    """Store hourly candles of a random walk up to NOON_MS but one of the week; return the closes, also that one's."""
    steps = np.random.default_rng(7).normal(0, 0.01, WEEK_AT + WEEK + 1)
    closes = 100 * np.exp(np.cumsum(steps))
    times = WEEK_MS + HOUR_MS * (np.arange(len(closes)) - WEEK_AT - 1)
    candles = Candles(times, closes, closes * 1.001, closes * 0.999, closes, 1 + np.abs(steps))
    kept = np.ones(len(closes), bool)
    if missing is not None:
        kept[WEEK_AT + 1 + missing] = False
    store.write("binance", pair, Interval.H1, candles[kept])
    return closes


def _serve(url: str, pair: Pair, closes: np.ndarray, hours: Sequence[int], horizons: int) -> None:
    """Record the forecasts as of the given hours of the week, as serving does."""
    roots = np.sqrt(np.arange(1, horizons + 1))[:, None]
    with Database(url) as database:
        for hour in hours:
            last_close = float(closes[WEEK_AT + hour])
            forecasts.record(
                database,
                [Quantiles.of(prices) for prices in (last_close * np.exp(roots * BAND)).tolist()],
                market="binance",
                pair=pair,
                interval=Interval.H1,
                as_of_ms=WEEK_MS + hour * HOUR_MS,
                version=1,
                last_close=last_close,
                made_at=datetime.fromtimestamp((WEEK_MS + hour * HOUR_MS) / 1000 + 20, UTC),
            )


def _score(url: str, store: CandleStore, pair: Pair) -> Score:
    series: dict[str, Any] = {"market": "binance", "pair": pair, "interval": Interval.H1, "as_of_ms": NOON_MS}
    with Database(url) as database:
        outcomes.record(database, store, **series)
        found = scoring.score(database, store, **series)
    assert found is not None
    return found


def _keep(url: str, market: str, interval: Interval, *, skill: float, as_of_ms: int, drifted: bool = False) -> None:
    verdict = Score(
        n=168,
        skill_vs_naive=skill,
        t_vs_naive=skill * 10,
        coverage_80=0.8,
        shift={"range": 0.1},
        drifted=drifted,
        reason="a test",
        horizons=(
            HorizonScore(horizon=1, n=168, skill_vs_naive=skill, coverage_80=0.8, t_vs_naive=skill * 10, skipped=0),
        ),
    )
    scores.save(Database(url), verdict, market=market, pair=BITCOIN, interval=interval, as_of_ms=as_of_ms)
