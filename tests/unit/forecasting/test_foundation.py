"""The foundation model sees each hour equally often, however many pairs move together in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from make_us_rich.core.interval import HOUR_MS
from make_us_rich.forecasting.architectures import TrainingConfig
from make_us_rich.forecasting.recipe import fit_foundation
from make_us_rich.forecasting.samples import Samples, draw
from make_us_rich.forecasting.training import TrainingTask
from make_us_rich.market.candles import Candles
from tests.unit.forecasting.random_candles import AS_OF_MS, random_candles

pytestmark = pytest.mark.slow

CONFIG = replace(TrainingConfig(), hidden=32, length=12, validation=168, holdout=500)
FEW, MANY = 4, 24


def _candles_like(bitcoin: Candles, seed: int) -> Candles:
    """Return the candles of a pair that follows Bitcoin with little noise of its own."""
    random = np.random.default_rng(seed)
    own = np.exp(np.cumsum(0.0015 * random.standard_normal(len(bitcoin))))
    before = np.concatenate([[1.0], own[:-1]])
    opening, close = bitcoin.open * before, bitcoin.close * own
    return Candles(
        bitcoin.open_time_ms,
        opening,
        np.maximum(bitcoin.high / bitcoin.open * opening, close),
        np.minimum(bitcoin.low / bitcoin.open * opening, close),
        close,
        bitcoin.volume * random.lognormal(0, 0.3, len(bitcoin)),
    )


def _loss(candles_by_pair: dict[str, Candles], bitcoin: Candles) -> float:
    """Return the holdout loss of the first few pairs, by a foundation of all pairs."""
    fitted = fit_foundation(candles_by_pair, bitcoin, TrainingTask(AS_OF_MS, CONFIG))
    return float(fitted.holdout.losses[: FEW * CONFIG.holdout, 0].mean())


def test_a_foundation_of_many_similar_pairs_is_not_worse_than_one_of_few() -> None:
    bitcoin = random_candles(1)
    many = {f"a{number:02}_usdt": _candles_like(bitcoin, number) for number in range(MANY)}
    few = dict(list(many.items())[:FEW])

    excess_loss = _loss(many, bitcoin) / _loss(few, bitcoin) - 1

    assert excess_loss < 0.02


def _samples(first_ms: int, count: int, mark: float) -> Samples:
    times = first_ms + HOUR_MS * np.arange(count, dtype=np.int64)
    target = torch.arange(count).float()[:, None]
    return Samples(torch.zeros(count, 2, 3), torch.full((count, 4), mark), target, target, times)


def _drawn_by_part(drawn: Samples, hours: int) -> np.ndarray:
    """Return how often each hour of each part was drawn, [parts, hours]; checks that samples are whole."""
    hour, mark = drawn.target_open_ms // HOUR_MS, drawn.static[:, 0].long().numpy()
    np.testing.assert_array_equal(drawn.target[:, 0].numpy(), hour)
    assert (np.diff(mark) >= 0).all(), "the order of the parts has changed"
    counts = np.zeros((mark.max() + 1, hours), dtype=int)
    np.add.at(counts, (mark, hour), 1)
    return counts


def test_every_hour_is_drawn_equally_often_from_its_pairs() -> None:
    halted = _samples(0, 0, 10)
    young = _samples(0, 250, 11)[200:]

    drawn = draw([*(_samples(0, 200, mark) for mark in range(10)), halted, young], 4, seed=0)

    counts = _drawn_by_part(drawn, 250)
    assert (counts.sum(axis=0) == 4).all()
    assert (counts[11, 200:] == 4).all()
    assert counts[:10].max() == 1, "drawn twice although others were not drawn"
    assert (abs(counts[:10].sum(axis=1) - 80) < 40).all(), "a pair is left out, or counts too much"


def test_epochs_draw_every_pair_before_they_draw_one_again() -> None:
    parts = [_samples(0, 100, mark) for mark in range(6)]

    epochs = [_drawn_by_part(draw(parts, 2, seed=3, epoch=epoch), 100) for epoch in range(5)]

    assert (sum(epochs[:3]) == 1).all()
    assert set(np.unique(sum(epochs))) == {1, 2}


def test_every_worker_draws_alike() -> None:
    parts = [_samples(0, 100, mark) for mark in range(6)]

    one, other = draw(parts, 2, seed=3, epoch=1), draw(parts, 2, seed=3, epoch=1)

    assert torch.equal(one.static, other.static)
    np.testing.assert_array_equal(one.target_open_ms, other.target_open_ms)


def test_the_cost_of_training_does_not_grow_with_the_number_of_pairs() -> None:
    bitcoin = random_candles(1)
    candles_by_pair = {f"a{number}_usdt": _candles_like(bitcoin, number) for number in range(6)}
    config = replace(CONFIG, hidden=4, foundation_epochs=2, foundation_draws=1)

    many = fit_foundation(candles_by_pair, bitcoin, TrainingTask(AS_OF_MS, config))
    alone = fit_foundation({"a": bitcoin}, bitcoin, TrainingTask(AS_OF_MS, config))

    assert many.params["train_rows"] == alone.params["train_rows"]


def test_the_order_of_the_pairs_changes_no_bit_of_the_foundation() -> None:
    bitcoin = random_candles(1)
    candles_by_pair = {f"{name}_usdt": _candles_like(bitcoin, seed) for seed, name in enumerate(("ada", "btc", "eth"))}
    config = replace(CONFIG, hidden=4, foundation_epochs=1, foundation_draws=1)

    one, other = (
        fit_foundation({name: candles_by_pair[name] for name in order}, bitcoin, TrainingTask(AS_OF_MS, config))
        for order in (sorted(candles_by_pair), sorted(candles_by_pair, reverse=True))
    )

    assert one.weights == other.weights
    assert one.onnx == other.onnx
    assert one.metrics == other.metrics
    assert one.params == other.params
