"""Pairs that hardly move are refused where they are added and trained, with the reason."""

from __future__ import annotations

import numpy as np
import pytest

from make_us_rich.core.errors import BadCandles
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.forecasting.dataset import align_candles
from make_us_rich.market.candles import Candles
from make_us_rich.market.stability import usual_move, why_too_stable
from tests.unit.forecasting.random_candles import random_candles

FIRST_MS = 1_735_689_600_000


def market(deviation: float, tick: float = 0.0, rows: int = 2400) -> Candles:
    """Hours of a price near 1 that moves by `deviation`."""
    close = np.exp(np.cumsum(np.random.default_rng(1).normal(0, deviation, rows)))
    if tick:
        close = np.round(close / tick) * tick
    opened = np.concatenate([close[:1], close[:-1]])
    times = FIRST_MS + HOUR_MS * np.arange(rows, dtype=np.int64)
    return Candles(times, opened, np.maximum(opened, close), np.minimum(opened, close), close, np.ones(rows))


@pytest.mark.parametrize(("deviation", "tick"), [(2e-5, 1e-4), (1e-5, 0.0), (1e-4, 0.0), (0.0, 0.0)])
def test_a_stable_pair_is_told(deviation: float, tick: float) -> None:
    assert "a band for a stable pair would be far too wide" in why_too_stable(market(deviation, tick), HOUR_MS)


def test_a_day_off_its_peg_makes_no_pair_of_it() -> None:
    candles = market(2e-5)
    candles.close[1000:1024] *= np.exp(np.random.default_rng(2).normal(0, 0.03, 24))
    assert why_too_stable(candles, HOUR_MS)


@pytest.mark.parametrize("deviation", [6e-4, 3e-3, 0.05, 0.3])
def test_euro_and_coins_are_not_stable(deviation: float) -> None:
    candles = market(deviation)
    assert usual_move(candles) == pytest.approx(deviation, rel=0.1)
    assert why_too_stable(candles, HOUR_MS) == ""


def test_the_limit_grows_with_the_length_of_a_candle() -> None:
    assert why_too_stable(market(4e-4), 4 * HOUR_MS)
    assert why_too_stable(market(2e-4), HOUR_MS // 4) == ""


def test_its_training_says_so() -> None:
    stable = market(2e-5, 1e-4)
    bitcoin = random_candles(1, len(stable))
    with pytest.raises(BadCandles, match=r"the pair moves by 0\.00\d+% in a candle, and models here forecast pairs"):
        align_candles(stable, bitcoin, interval=Interval.H1, as_of_ms=FIRST_MS + 2400 * HOUR_MS, max_bridged=3)
