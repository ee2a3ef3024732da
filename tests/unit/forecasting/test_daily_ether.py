"""The demonstration of 2018: its days, its features, and its figures to four digits."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from examples.daily_ether import (
    LAGS,
    Forecast,
    linear_regression,
    lstm,
    mean_absolute_error,
    split,
    train_mean,
    zero_change,
)
from make_us_rich.core.errors import NotEnoughHistory
from make_us_rich.core.interval import Interval
from make_us_rich.market.candles import Candles
from make_us_rich.market.recordings import read_klines
from tests.support.processes import PROJECT_ROOT
from tests.support.recorded_data import recorded

DAY_MS = 86_400_000
FIRST_MS = 1_462_060_800_000  # 2016-05-01
DAYS = 623  # to 2018-01-13
TEST_DAY = 563  # 2017-11-15


def _market(seed: int, days: int = DAYS, first_ms: int = FIRST_MS) -> Candles:
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.03, days)))
    opened = close * np.exp(random.normal(0, 0.03, days))
    high, low = np.maximum(opened, close) * 1.01, np.minimum(opened, close) * 0.98
    times = first_ms + DAY_MS * np.arange(days)
    return Candles(times, opened, high, low, close, random.uniform(1, 2, days))


def test_a_sample_has_four_days_and_the_next_change() -> None:
    bitcoin, ether = _market(1), _market(2)
    train, test = split(bitcoin, ether)

    assert (train.features.shape, test.features.shape) == ((260, LAGS, 10), (59, LAGS, 10))
    assert [str(part.day[at])[:10] for part in (train, test) for at in (0, -1)] == [
        "2017-02-28", "2017-11-14", "2017-11-15", "2018-01-12",
    ]  # fmt: skip
    next_day = TEST_DAY + 1
    assert test.change[0] == pytest.approx(ether.close[next_day] / ether.open[next_day] - 1)
    assert test.next_open[0] == ether.open[next_day]
    # the features of the training days have mean 0 and variance 1
    np.testing.assert_allclose(train.features[:, -1].mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(train.features[:, -1].std(axis=0), 1)
    np.testing.assert_array_equal(train.features[1:, :-1], train.features[:-1, 1:])
    known = slice(TEST_DAY - 260, TEST_DAY)
    place = 2 * (ether.high - ether.close) / (ether.high - ether.low) - 1
    scaled = (place[TEST_DAY] - place[known].mean()) / place[known].std()
    assert test.features[0, -1, 7] == pytest.approx(scaled)


def test_missing_days_are_named() -> None:
    with pytest.raises(NotEnoughHistory, match="from 2016-05-01 to 2018-01-13"):
        split(_market(1, days=600), _market(2))


@pytest.mark.recorded("daily")
@pytest.mark.parametrize(
    ("forecast", "error"), [(linear_regression, 0.121996), (zero_change, 0.05342), (train_mean, 0.05014)]
)
def test_the_figures_of_2018(forecast: Forecast, error: float) -> None:
    files = (recorded("daily") / f"{coin}USD_coinmarketcap.parquet" for coin in ("BTC", "ETH"))
    train, test = split(*(read_klines(file, Interval.D1) for file in files))

    assert mean_absolute_error(forecast(train, test), test) == pytest.approx(error, abs=6e-6)


def test_the_network_learns_and_a_seed_is_repeatable() -> None:
    train, test = split(_market(1), _market(2))
    first, again, other = (lstm(train, test, seed, epochs=2) for seed in (0, 0, 1))

    assert first.losses[1] < first.losses[0]
    np.testing.assert_array_equal(first.forecast, again.forecast)
    assert np.abs(first.forecast - other.forecast).max() > 0.01
    assert np.abs(first.forecast).max() < 1  # a tanh


def test_the_docs_show_the_six_pictures() -> None:
    page = (PROJECT_ROOT / "docs" / "explanation" / "forecasting.md").read_text()
    shown = re.findall(r"\(\.\./images/(2018-[a-z-]+\.png)\)", page)

    assert shown == [
        "2018-price.png", "2018-volume.png", "2018-training-split.png",
        "2018-loss.png", "2018-prediction.png", "2018-lstm-and-regression.png",
    ]  # fmt: skip
    assert all((PROJECT_ROOT / "docs" / "images" / name).is_file() for name in shown)


def test_the_benchmark_names_the_data_it_needs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.daily_ether"],
        env=os.environ | {"DAILY": str(tmp_path)},
        capture_output=True,
        text=True,
        cwd=PROJECT_ROOT,
        check=False,
    )

    assert done.returncode == 1
    assert "BTCUSD_coinmarketcap.parquet" in done.stderr
    assert "from 2016-05-01 to 2018-01-13" in done.stderr
