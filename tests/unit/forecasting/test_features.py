"""The features equal those of a plain loop over candles that shares no code with them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from make_us_rich.forecasting.features import SEQUENCE_FEATURES, STATIC_FEATURES, WARMUP, sequence_features
from make_us_rich.forecasting.onnx_model import candle_array
from tests.unit.forecasting.plain_features import features_at
from tests.unit.forecasting.random_candles import random_candles

ROWS = 40


@pytest.mark.parametrize("seed", [1, 2])
def test_every_feature_equals_that_of_a_plain_loop(seed: int) -> None:
    own = candle_array(random_candles(seed)[: WARMUP + ROWS]).astype(np.float64)
    btc = candle_array(random_candles(seed + 10)[: WARMUP + ROWS]).astype(np.float64)
    own[WARMUP + 5, 1] *= 3  # a wick beyond the clipping limit
    own[WARMUP + 9, 4] = 0.0
    sequence, static = sequence_features(torch.from_numpy(own)[None], torch.from_numpy(btc)[None])

    assert sequence.shape == (1, ROWS, SEQUENCE_FEATURES)
    assert static.shape == (1, ROWS, STATIC_FEATURES)
    for row in range(ROWS):
        expected = features_at(own.tolist(), btc.tolist(), WARMUP + row)
        np.testing.assert_allclose(sequence[0, row], expected[0], rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(static[0, row], expected[1], rtol=1e-8, atol=1e-8)


def test_single_precision_is_close_enough() -> None:
    """The graph computes in single precision; prices are as large as Bitcoin's."""
    own = candle_array(random_candles(3, price=60_000.0)[: WARMUP + ROWS])
    exact = own.astype(np.float64)
    sequence, static = sequence_features(torch.from_numpy(own)[None], torch.from_numpy(own)[None])
    for row in range(ROWS):
        expected = features_at(exact.tolist(), exact.tolist(), WARMUP + row)
        np.testing.assert_allclose(sequence[0, row], expected[0], rtol=2e-3, atol=2e-3)
        np.testing.assert_allclose(static[0, row], expected[1], rtol=2e-3, atol=2e-3)
