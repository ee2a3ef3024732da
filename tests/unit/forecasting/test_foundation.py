"""The foundation model sees each hour a limited number of times, although many pairs move together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.forecasting.architectures import TrainingConfig
from make_us_rich.forecasting.pipeline import fit_foundation
from make_us_rich.forecasting.samples import Samples, subsample
from make_us_rich.market.candles import Candles
from tests.unit.forecasting.random_candles import AS_OF_MS, random_candles

pytestmark = pytest.mark.slow

CONFIG = replace(TrainingConfig(), hidden=32, length=12, validation=168, holdout=500)
FEW, MANY = 4, 48


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
    fitted = fit_foundation(candles_by_pair, bitcoin, interval=Interval.H1, as_of_ms=AS_OF_MS, config=CONFIG)
    return float(fitted.holdout.losses[: FEW * CONFIG.holdout].mean())


def test_a_foundation_of_many_similar_pairs_is_not_worse_than_one_of_few() -> None:
    bitcoin = random_candles(1)
    many = {f"a{number}_usdt": _candles_like(bitcoin, number) for number in range(MANY)}
    few = dict(list(many.items())[:FEW])

    excess_loss = _loss(many, bitcoin) / _loss(few, bitcoin) - 1

    assert excess_loss < 0.02


def _samples(first_ms: int, count: int, mark: float) -> Samples:
    times = first_ms + HOUR_MS * np.arange(count, dtype=np.int64)
    return Samples(torch.zeros(count, 2, 3), torch.full((count, 4), mark), torch.arange(count).float(), times)


def test_hours_of_many_pairs_are_subsampled_and_rare_hours_kept() -> None:
    parts = [_samples(0, 200, mark) for mark in range(10)]
    young = _samples(200 * HOUR_MS, 50, 10)

    kept = subsample([*parts, young], 4, seed=0)

    times, count = np.unique(np.concatenate([part.target_open_ms for part in kept]), return_counts=True)
    assert len(times) == 250
    assert set(count[:200]) == {4}
    assert set(count[200:]) == {1}
    assert kept[-1] is young
    assert all(40 <= len(part) <= 120 for part in kept[:-1]), "a pair is left out, or counts too much"
    for mark, part in enumerate(kept):
        assert (np.diff(part.target_open_ms) > 0).all()
        np.testing.assert_array_equal(part.target.numpy(), part.target_open_ms // HOUR_MS - (200 if mark == 10 else 0))
        assert (part.static == mark).all()


def test_every_worker_subsamples_alike_and_few_pairs_keep_all() -> None:
    parts = [_samples(0, 100, mark) for mark in range(6)]

    for one, other in zip(subsample(parts, 2, seed=3), subsample(parts, 2, seed=3), strict=True):
        np.testing.assert_array_equal(one.target_open_ms, other.target_open_ms)
    assert all(kept is part for kept, part in zip(subsample(parts, 6, seed=3), parts, strict=True))


def test_training_sees_no_hour_more_often_than_the_config_says() -> None:
    bitcoin = random_candles(1)
    candles_by_pair = {f"a{number}_usdt": _candles_like(bitcoin, number) for number in range(6)}
    config = replace(CONFIG, hidden=4, foundation_views=4)

    fitted = fit_foundation(candles_by_pair, bitcoin, interval=Interval.H1, as_of_ms=AS_OF_MS, config=config)

    alone = fit_foundation({"a": bitcoin}, bitcoin, interval=Interval.H1, as_of_ms=AS_OF_MS, config=config)
    assert fitted.params["train_rows"] == 2 * int(alone.params["train_rows"])
