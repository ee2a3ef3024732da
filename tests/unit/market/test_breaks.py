"""A redenomination is told from a crash and from a wrong price, and ends the history."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.documents import HORIZON_GRID
from make_us_rich.forecasting.live_baselines import newest_forecast
from make_us_rich.market.breaks import breaks
from make_us_rich.market.candles import MAX_BRIDGED, Candles, break_text, regular_segments
from make_us_rich.market.window import common_window
from tests.unit.forecasting.random_candles import random_candles

ROWS = 1000
PRICES = ("open", "high", "low", "close")


def market() -> Candles:
    random = random_candles(3, ROWS)
    return replace(random, open_time_ms=random.open_time_ms + 20_000 * 24 * HOUR_MS)


def multiplied(candles: Candles, row: int, factor: float, *, inside: bool = False) -> Candles:
    """Multiply all prices from a row on; `inside`: the row's candle opens at the old price."""
    later = np.arange(len(candles)) >= row
    columns = {name: np.where(later, getattr(candles, name) * factor, getattr(candles, name)) for name in PRICES}
    if inside:
        columns["open"][row] = candles.close[row - 1]
        columns["high"][row] = max(columns["high"][row], columns["open"][row])
        columns["low"][row] = min(columns["low"][row], columns["open"][row])
    return replace(candles, **columns)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("factor", [0.001, 1000.0, 0.1, 10.0, 1e-6])
@pytest.mark.parametrize("ago", [1, 2, 120])
def test_a_redenomination_ends_the_history(factor: float, ago: int, inside: bool) -> None:
    candles = multiplied(market(), ROWS - ago, factor, inside=inside)

    assert breaks(candles).tolist() == [ROWS - ago]
    assert len(regular_segments(candles, Interval.H1, MAX_BRIDGED)[-1].candles) == ago
    window = common_window(candles, market(), Interval.H1)
    assert window is not None
    assert len(window.candles) == ago
    assert f"multiplied by {factor:g} at" in break_text(candles)
    assert f"there are {ago} after it" in break_text(candles)


@pytest.mark.parametrize("factor", [0.001, 1000.0])
def test_ewma_takes_no_break_for_volatility(factor: float) -> None:
    plain = newest_forecast("ewma", market(), HOUR_MS, HORIZON_GRID)
    broken = newest_forecast("ewma", multiplied(market(), ROWS - 2, factor), HOUR_MS, HORIZON_GRID)

    np.testing.assert_allclose(broken, plain, rtol=0.1, atol=1e-4)


def test_a_crash_is_no_break() -> None:
    """Hours that lose half of the price each, from 80 to 0.0001, as in May 2022."""
    candles = market()
    falls = np.exp(-0.8 * np.clip(np.arange(ROWS) - (ROWS - 20), 0, 17))
    close = candles.close * falls
    opened = np.concatenate([close[:1], close[:-1]])
    wild = np.where(np.arange(ROWS) > ROWS - 60, 1.3, 1.01)
    crash = Candles(
        candles.open_time_ms,
        opened,
        np.maximum(opened, close) * wild,
        np.minimum(opened, close) / wild,
        close,
        candles.volume,
    )

    assert breaks(crash).tolist() == []
    halved = multiplied(candles, ROWS - 20, 0.45)
    assert breaks(halved).tolist() == []


def test_a_fall_to_a_tenth_within_wild_hours_is_no_break() -> None:
    crash = multiplied(market(), ROWS - 10, 0.1, inside=True)
    wild = np.arange(ROWS) > ROWS - 40
    crash = replace(
        crash, high=np.where(wild, crash.high * 1.2, crash.high), low=np.where(wild, crash.low / 1.2, crash.low)
    )
    assert breaks(crash).tolist() == []


def test_a_wrong_price_that_is_taken_back_is_no_break() -> None:
    wrong = multiplied(multiplied(market(), ROWS - 30, 10.0), ROWS - 27, 0.1)

    assert breaks(wrong).tolist() == []
    assert break_text(wrong) == ""


def test_two_redenominations_are_two_breaks() -> None:
    twice = multiplied(multiplied(market(), 300, 1000.0), 700, 0.001)
    assert breaks(twice).tolist() == [300, 700]


@pytest.mark.parametrize("price", [1e-8, 4e-7, 1e9])
def test_prices_of_any_size_have_no_breaks(price: float) -> None:
    candles = market()
    scaled = replace(candles, **{name: getattr(candles, name) * price for name in PRICES})
    assert breaks(scaled).tolist() == []
