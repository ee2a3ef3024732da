"""The features equal those of a plain loop over candles that shares no code with them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from make_us_rich.core.interval import Interval
from make_us_rich.forecasting.features import feature_layout, sequence_features
from make_us_rich.forecasting.onnx_model import candle_array
from tests.unit.forecasting.plain_features import WINDOWS, features_at
from tests.unit.forecasting.random_candles import random_candles

ROWS = 40


@pytest.mark.parametrize("interval", WINDOWS)
@pytest.mark.parametrize("seed", [1, 2])
def test_every_feature_equals_that_of_a_plain_loop(seed: int, interval: Interval) -> None:
    layout, windows = feature_layout(interval), WINDOWS[interval]
    count = windows.warmup + ROWS
    own = candle_array(random_candles(seed, count, interval=interval)).astype(np.float64)
    btc = candle_array(random_candles(seed + 10, count, interval=interval)).astype(np.float64)
    own[windows.warmup + 5, 1] *= 3  # a wick beyond the clipping limit
    own[windows.warmup + 9, 4] = 0.0
    sequence, static = sequence_features(torch.from_numpy(own)[None], torch.from_numpy(btc)[None], layout)

    assert sequence.shape == (1, ROWS, layout.sequence_size)
    assert static.shape == (1, ROWS, layout.static_size)
    for row in range(ROWS):
        expected = features_at(own.tolist(), btc.tolist(), windows.warmup + row, windows)
        np.testing.assert_allclose(sequence[0, row], expected[0], rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(static[0, row], expected[1], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("interval", WINDOWS)
def test_single_precision_is_close_enough(interval: Interval) -> None:
    """The graph computes in single precision; prices are as large as Bitcoin's."""
    windows = WINDOWS[interval]
    own = candle_array(random_candles(3, windows.warmup + ROWS, price=60_000.0, interval=interval))
    exact = own.astype(np.float64)
    candles = torch.from_numpy(own)[None]
    sequence, static = sequence_features(candles, candles, feature_layout(interval))
    for row in range(ROWS):
        expected = features_at(exact.tolist(), exact.tolist(), windows.warmup + row, windows)
        np.testing.assert_allclose(sequence[0, row], expected[0], rtol=2e-3, atol=2e-3)
        np.testing.assert_allclose(static[0, row], expected[1], rtol=2e-3, atol=2e-3)


def test_the_volatility_of_a_time_of_day_is_found_at_that_time_ahead() -> None:
    """Candles whose range is large once a day: the profile rises when that time is next."""
    for interval in (Interval.M15, Interval.H1, Interval.H4):
        layout = feature_layout(interval)
        candles = random_candles(4, layout.warmup + 2 * layout.day, interval=interval)
        wild = candles.open_time_ms % (24 * 3_600_000) == 8 * 3_600_000
        candles.high[:] = np.maximum(candles.open, candles.close) * np.where(wild, 1.2, 1.0001)
        array = torch.from_numpy(candle_array(candles))[None]
        _, static = sequence_features(array, array, layout)
        (profile,) = layout.profile_until(1)
        highest = static[0, :, profile].topk(2).indices.sort()[0]
        assert np.array_equal(np.flatnonzero(wild[layout.warmup :]) - 1, highest)
