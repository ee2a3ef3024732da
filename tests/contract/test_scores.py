"""Scores of served forecasts in a real Postgres, and what the dashboard's pages read of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN
from make_us_rich.database import scores
from make_us_rich.database.pool import Database
from make_us_rich.documents import Score
from tests.support.servers import migrated_database

pytestmark = pytest.mark.timeout(120)

NOON_MS = 1_700_049_600_000  # 2023-11-15 12:00 UTC


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with migrated_database() as server:
        yield server


def test_scores_of_other_markets_and_intervals_are_left_out(url: str) -> None:
    _keep(url, "binance", Interval.H1, skill=0.05, as_of_ms=NOON_MS)
    _keep(url, "simulated", Interval.H1, skill=0.50, as_of_ms=NOON_MS + HOUR_MS)
    _keep(url, "binance", Interval.H4, skill=-0.50, as_of_ms=NOON_MS + 2 * HOUR_MS, drifted=True)

    served = scores.latest(Database(url), market="binance", interval=Interval.H1)[str(BITCOIN)]

    assert (served.skill_vs_naive, served.drifted) == (0.05, False)
    assert scores.latest(Database(url), market="recorded", interval=Interval.H1) == {}


def test_the_newest_score_of_a_day_is_kept(url: str) -> None:
    _keep(url, "binance", Interval.H1, skill=0.03, as_of_ms=NOON_MS + HOUR_MS)
    _keep(url, "binance", Interval.H1, skill=0.01, as_of_ms=NOON_MS)

    assert scores.latest(Database(url), market="binance", interval=Interval.H1)[str(BITCOIN)].skill_vs_naive == 0.03


def _keep(url: str, market: str, interval: Interval, *, skill: float, as_of_ms: int, drifted: bool = False) -> None:
    verdict = Score(
        n=168,
        skill_vs_naive=skill,
        t_vs_naive=skill * 10,
        coverage_80=0.8,
        shift={"range": 0.1},
        drifted=drifted,
        reason="a test",
    )
    scores.save(Database(url), verdict, market=market, pair=BITCOIN, interval=interval, as_of_ms=as_of_ms)
