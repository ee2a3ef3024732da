"""The 2018 demonstration: its days, its baselines, and a network that does not lose to no change."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from make_us_rich.errors import NotEnoughHistory
from make_us_rich.forecasting.daily_ether import (
    LAGS,
    TEST_FROM,
    Days,
    days_of,
    linear_regression,
    lstm,
    mean_absolute_error,
    split,
    train_mean,
    zero_change,
)
from make_us_rich.market.candles import Candles
from make_us_rich.market.recorded import read_klines
from tests.support.recorded import DATA, needs_recorded_data

DAY_MS = 86_400_000


def _market(closes: list[float], first_ms: int = 0) -> Candles:
    close = np.array(closes)
    return Candles(first_ms + DAY_MS * np.arange(len(close)), close, close, close, close, 10 * close)


def test_a_row_knows_four_days_and_the_next_change() -> None:
    days = days_of(_market([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), _market([10.0, 20.0, 30.0, 40.0, 44.0, 22.0]))

    assert days.levels.shape == (2, LAGS, 4)
    np.testing.assert_allclose(days.levels[0, -1], [4.0, 40.0, 40.0, 400.0])
    np.testing.assert_allclose(days.change, [0.1, -0.5])
    assert days.day_ms.tolist() == [3 * DAY_MS, 4 * DAY_MS]


def test_training_ends_before_the_first_tested_change_is_known() -> None:
    first_ms = int(TEST_FROM.timestamp() * 1000) - 200 * DAY_MS
    closes = [100.0 + number % 7 for number in range(300)]
    train, test = split(days_of(_market(closes, first_ms), _market(closes, first_ms)))

    assert train.day_ms[-1] + 2 * DAY_MS == test.day_ms[0] == int(TEST_FROM.timestamp() * 1000)
    assert len(test.change) == 59


def test_too_little_history_says_how_much_is_needed() -> None:
    with pytest.raises(NotEnoughHistory, match="59 are needed"):
        split(days_of(_market([1.0] * 30), _market([1.0] * 30)))


@pytest.fixture(scope="module")
def recorded() -> tuple[Days, Days]:
    folder = DATA / "daily"
    bitcoin, ether = (
        read_klines(folder / f"{coin}USD_coinmarketcap.parquet", "1d") for coin in ("BTC", "ETH")
    )
    return split(days_of(bitcoin, ether))


@needs_recorded_data
def test_the_baselines_of_2018(recorded: tuple[Days, Days]) -> None:
    train, test = recorded
    assert datetime.fromtimestamp(test.day_ms[-1] / 1000, UTC) == datetime(2018, 1, 12, tzinfo=UTC)
    assert mean_absolute_error(zero_change(train, test), test) == pytest.approx(0.0534, abs=5e-5)
    assert mean_absolute_error(train_mean(train, test), test) == pytest.approx(0.0507, abs=5e-5)
    # twice as bad as no change, as in 2018 (0.1220), whose first training day is not known
    assert mean_absolute_error(linear_regression(train, test), test) == pytest.approx(0.1177, abs=5e-5)


@needs_recorded_data
def test_over_seeds_the_network_does_not_lose_to_no_change(recorded: tuple[Days, Days]) -> None:
    train, test = recorded
    errors = [mean_absolute_error(lstm(train, test, seed).forecast, test) for seed in range(10)]
    assert np.mean(errors) <= mean_absolute_error(zero_change(train, test), test)
