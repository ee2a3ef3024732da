"""Scores of served forecasts in a real Postgres, and what the dashboard's pages read of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from make_us_rich import scores
from make_us_rich.forecasting.drift import Verdict
from make_us_rich.intervals import HOUR_MS
from make_us_rich.migrations import migrate
from make_us_rich.pairs import BITCOIN
from tests.support.folders import open_folder
from tests.support.servers import postgres_server

pytestmark = pytest.mark.timeout(120)

NOON_MS = 1_700_049_600_000  # 2023-11-15 12:00 UTC


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with open_folder() as folder, postgres_server(folder) as server:
        migrate(server)
        yield server


def test_scores_of_other_markets_and_intervals_are_left_out(url: str) -> None:
    _keep(url, "binance", "1h", skill=0.05, as_of_ms=NOON_MS)
    _keep(url, "simulated", "1h", skill=0.50, as_of_ms=NOON_MS + HOUR_MS)
    _keep(url, "binance", "4h", skill=-0.50, as_of_ms=NOON_MS + 2 * HOUR_MS, drifted=True)

    served = scores.latest(url, market="binance", interval="1h")[str(BITCOIN)]

    assert (served.skill_vs_naive, served.drifted) == (0.05, False)
    assert scores.latest(url, market="recorded", interval="1h") == {}


def test_the_days_newest_score_stays(url: str) -> None:
    _keep(url, "binance", "1h", skill=0.03, as_of_ms=NOON_MS + HOUR_MS)
    _keep(url, "binance", "1h", skill=0.01, as_of_ms=NOON_MS)

    assert scores.latest(url, market="binance", interval="1h")[str(BITCOIN)].skill_vs_naive == 0.03


def _keep(
    url: str, market: str, interval: str, *, skill: float, as_of_ms: int, drifted: bool = False
) -> None:
    verdict = Verdict(168, skill, skill * 10, 0.8, {"range": 0.1}, drifted, "a test")
    scores.keep(url, verdict, market=market, pair=BITCOIN, interval=interval, as_of_ms=as_of_ms)
