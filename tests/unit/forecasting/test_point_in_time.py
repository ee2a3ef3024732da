"""A model depends on the candles closed at or before its as_of, and on nothing else."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.forecasting.dataset import align_candles, make_samples, prepare
from make_us_rich.forecasting.features import feature_layout
from make_us_rich.forecasting.networks import lstm
from make_us_rich.forecasting.recipe import FittedModel, evaluate_model, fit, fit_foundation
from make_us_rich.forecasting.samples import Samples
from make_us_rich.forecasting.training import TrainingTask
from make_us_rich.market.candles import Candles
from tests.unit.forecasting.random_candles import AS_OF_MS, BITCOIN, LATER, LENGTH, OWN, SMALL, without

FAST = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def prepared(own: Candles, reference: Candles) -> list[Samples]:
    parts = prepare(own, reference, TrainingTask(AS_OF_MS, SMALL)).split
    return [parts.train, parts.validation, parts.holdout]


def altered(candles: Candles, row: int, factor: float) -> Candles:
    """Multiply all of one candle but its time by `factor`."""
    columns = {item.name: getattr(candles, item.name).copy() for item in fields(Candles)}
    for name in ("open", "high", "low", "close", "volume"):
        columns[name][row] *= factor
    return Candles(**columns)


@FAST
@given(row=st.integers(LENGTH, LENGTH + LATER - 1), factor=st.floats(0.01, 100), which=st.booleans())
def test_later_candles_change_no_sample(row: int, factor: float, which: bool) -> None:
    own = altered(OWN, row, factor) if which else OWN
    reference = BITCOIN if which else altered(BITCOIN, row, factor)
    for before, after in zip(prepared(OWN, BITCOIN), prepared(own, reference), strict=True):
        assert torch.equal(before.sequence, after.sequence)
        assert torch.equal(before.static, after.static)
        assert np.array_equal(before.target, after.target, equal_nan=True)


@FAST
@given(row=st.integers(800, LENGTH - 1), factor=st.floats(1.01, 3))
def test_a_sample_knows_only_candles_before_its_target(row: int, factor: float) -> None:
    target_ms = int(OWN.open_time_ms[row])
    changed = prepared(altered(OWN, row, factor), altered(BITCOIN, row, factor))
    for before, after in zip(prepared(OWN, BITCOIN), changed, strict=True):
        known = before.target_open_ms <= target_ms
        assert torch.equal(before.static[known], after.static[known])
        assert torch.equal(before.sequence[known], after.sequence[known])


def test_later_candles_change_no_bit_of_the_model(fitted_pair: FittedModel) -> None:
    own, reference = altered(OWN, LENGTH, 7.0), altered(BITCOIN, LENGTH, 7.0)
    again = fit(own, reference, pair="eth_usdt", task=TrainingTask(AS_OF_MS, SMALL))
    assert again.onnx == fitted_pair.onnx
    assert again.weights == fitted_pair.weights
    assert again.metrics == fitted_pair.metrics


def test_an_open_candle_is_not_used() -> None:
    closed_at = prepare(OWN, BITCOIN, TrainingTask(AS_OF_MS, SMALL))
    newest = closed_at.split.holdout.target_open_ms[-1]
    assert newest + HOUR_MS == AS_OF_MS
    a_second_early = prepare(OWN, BITCOIN, TrainingTask(AS_OF_MS - 1000, SMALL))
    assert a_second_early.split.holdout.target_open_ms[-1] == newest - HOUR_MS


@FAST
@given(first=st.integers(900, 1300), count=st.integers(1, 40))
def test_no_window_crosses_an_unbridged_gap(first: int, count: int) -> None:
    aligned = align_candles(
        without(OWN, first, count), BITCOIN, interval=Interval.H1, as_of_ms=AS_OF_MS, max_bridged=SMALL.max_bridged
    )
    samples = make_samples(aligned, interval=Interval.H1, config=SMALL)
    gap_end_ms = int(OWN.open_time_ms[first + count])
    reach = (720 + SMALL.length) * HOUR_MS
    crossing = (samples.target_open_ms > gap_end_ms - HOUR_MS) & (samples.target_open_ms - reach < gap_end_ms)
    if count > SMALL.max_bridged:
        assert not crossing.any()
    else:
        assert crossing.any()


def test_scaling_is_fitted_on_training_samples_only() -> None:
    train, validation, holdout = prepared(OWN, BITCOIN)
    network = lstm(feature_layout(Interval.H1), 8, SMALL.length)
    network.fit_scaling(train)
    static = train.static.double()
    assert torch.allclose(network.mean.double(), static.mean(dim=0), atol=1e-4)
    assert torch.allclose(network.deviation.double(), static.std(dim=0).clamp_min(1e-6), rtol=1e-3)
    assert train.target_open_ms[-1] < validation.target_open_ms[0] < holdout.target_open_ms[0]


def test_the_holdout_is_not_trained_on(fitted_pair: FittedModel) -> None:
    """Other prices in the holdout give the same weights and other metrics: no far target reaches into it."""
    other = altered(OWN, LENGTH - SMALL.holdout, 1.5)
    again = fit(other, BITCOIN, pair="eth_usdt", task=TrainingTask(AS_OF_MS, SMALL))
    assert again.weights == fitted_pair.weights
    assert again.metrics["pinball"] != fitted_pair.metrics["pinball"]


def test_the_holdout_trains_no_foundation_either() -> None:
    def foundation(own: Candles) -> bytes:
        return fit_foundation({"eth_usdt": own, "btc_usdt": BITCOIN}, BITCOIN, TrainingTask(AS_OF_MS, SMALL)).weights

    def tuned(own: Candles) -> bytes:
        return fit(own, BITCOIN, pair="eth_usdt", task=TrainingTask(AS_OF_MS, SMALL), foundation=shared).weights

    shared, other = foundation(OWN), altered(OWN, LENGTH - SMALL.holdout, 1.5)
    assert foundation(other) == shared
    assert tuned(other) == tuned(OWN)
    assert foundation(altered(OWN, LENGTH - SMALL.holdout - 20, 1.5)) != shared


def test_a_champion_is_scored_on_the_challengers_candles(fitted_pair: FittedModel) -> None:
    champion = fit(OWN, BITCOIN, pair="eth_usdt", task=TrainingTask(AS_OF_MS - 24 * HOUR_MS, SMALL))
    prepared_pair = prepare(OWN, BITCOIN, TrainingTask(AS_OF_MS, SMALL))
    scored = evaluate_model(champion.onnx, prepared_pair, interval=Interval.H1)
    assert np.array_equal(scored.target_open_ms, fitted_pair.holdout.target_open_ms)
    assert champion.holdout.at(1).losses[24:] == pytest.approx(scored.at(1).losses[:-24], rel=1e-5)
    assert champion.holdout.at(24).losses[24:] == pytest.approx(scored.at(24).losses[:-24], rel=1e-5)


def test_the_same_seed_gives_the_same_model_and_another_does_not(fitted_pair: FittedModel) -> None:
    again = fit(OWN, BITCOIN, pair="eth_usdt", task=TrainingTask(AS_OF_MS, SMALL))
    other = fit(OWN, BITCOIN, pair="eth_usdt", task=TrainingTask(AS_OF_MS, replace(SMALL, seed=1)))
    assert again.onnx == fitted_pair.onnx
    assert again.weights != other.weights
