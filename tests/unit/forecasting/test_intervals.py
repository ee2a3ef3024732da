"""Models of every interval: training, its checks, and that each knows only its past and its own interval."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from make_us_rich.core.errors import BadModel, InputError, NotEnoughHistory
from make_us_rich.core.interval import TRAINING_CANDLES, Interval
from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import Settings
from make_us_rich.documents import HORIZONS
from make_us_rich.forecasting.architectures import (
    TrainingConfig,
    context_length,
    from_npz,
    least_candles,
    new_network,
    to_npz,
)
from make_us_rich.forecasting.dataset import prepare
from make_us_rich.forecasting.onnx_model import OnnxModel, hour_of_week
from make_us_rich.forecasting.recipe import fit, fit_foundation
from make_us_rich.forecasting.training import TrainingTask
from make_us_rich.market.candles import Candles
from make_us_rich.market.recordings import read_recorded
from tests.support.processes import PROJECT_ROOT
from tests.support.recorded_data import recorded
from tests.unit.forecasting.random_candles import random_candles, small

OTHERS = (Interval.M15, Interval.H4, Interval.D1)
ALL = (Interval.H1, *OTHERS)
LENGTH = 2400
FOUR_HOURS = random_candles(1, interval=Interval.H4), random_candles(2, price=30_000.0, interval=Interval.H4)


def _end_ms(candles: Candles, interval: Interval) -> int:
    return int(candles.open_time_ms[-1]) + interval.ms


@pytest.mark.parametrize("interval", OTHERS)
def test_each_interval_is_trained_and_passes_its_checks(interval: Interval) -> None:
    own = random_candles(3, LENGTH, interval=interval)
    bitcoin = random_candles(4, LENGTH, 30_000.0, interval)
    as_of_ms, config = _end_ms(own, interval), small(interval)
    shared = fit_foundation({"eth_usdt": own, "btc_usdt": bitcoin}, bitcoin, TrainingTask(as_of_ms, config))
    tuned = fit(own, bitcoin, pair="eth_usdt", task=TrainingTask(as_of_ms, config), foundation=shared.weights)
    model = OnnxModel.load(tuned.onnx, f"eth_usdt_{interval}")
    assert model.context_length == context_length(config)
    assert model.quantiles(own, bitcoin).shape == (HORIZONS, 7)  # which checks them
    assert 0.6 < tuned.metrics["coverage_80"] < 0.95


def test_daily_candles_have_no_constant_feature() -> None:
    """Division by the rounding of a constant made the graph differ from PyTorch: its cause was the hour of the day."""
    candles = random_candles(5, LENGTH, interval=Interval.D1)
    config = small(Interval.D1)
    prepared = prepare(candles, candles, TrainingTask(_end_ms(candles, Interval.D1), config))
    assert (prepared.split.train.static.std(dim=0) > 0.01).all()
    assert (prepared.split.train.sequence.std(dim=(0, 1)) > 0.01).all()


def test_a_constant_feature_is_not_magnified() -> None:
    candles = random_candles(5)
    prepared = prepare(candles, candles, TrainingTask(_end_ms(candles, Interval.H1), small(Interval.H1)))
    train = prepared.split.train
    constant = train.static.shape[1] - 1
    train.static[:, constant] = 1 + 1e-7 * torch.randn(len(train))
    network = new_network(small(Interval.H1))
    network.fit_scaling(train)
    network.calibrate(train)
    network.eval()
    sample = train.sequence[:1], train.static[:1]
    rounded = train.static[:1].clone()
    rounded[:, constant] += 2e-7
    torch.testing.assert_close(network(*sample), network(sample[0], rounded), rtol=1e-4, atol=1e-6)


def test_weights_of_another_interval_are_refused() -> None:
    for trained, wanted in permutations(ALL, 2):
        weights = to_npz(new_network(TrainingConfig.of(trained)), 0)
        with pytest.raises(BadModel, match=f"do not fit lstm of {wanted}"):
            from_npz(weights, TrainingConfig.of(wanted), 0)


def test_an_interval_that_is_not_trained_is_refused() -> None:
    with pytest.raises(InputError, match="use one of 15m, 1h, 4h, 1d") as caught:
        TrainingConfig.of(Interval.M5)
    assert caught.value.field == "interval"


def test_the_default_config_is_that_of_an_hour() -> None:
    assert TrainingConfig.of(Interval.H1) == TrainingConfig()


def test_a_training_run_reads_the_candles_that_its_config_uses() -> None:
    for interval, candles in TRAINING_CANDLES.items():
        config = TrainingConfig.of(interval)
        assert candles == context_length(config) + config.training + config.holdout + HORIZONS


@pytest.mark.parametrize("interval", TRAINING_CANDLES)
def test_a_first_model_needs_as_many_candles_as_the_pages_say(interval: Interval) -> None:
    config = TrainingConfig.of(interval)
    needed = least_candles(config)
    candles = random_candles(7, needed, interval=interval)
    end_ms = _end_ms(candles, interval)
    prepare(candles, candles, TrainingTask(end_ms, config))
    fewer = candles[1:]
    with pytest.raises(NotEnoughHistory):
        prepare(fewer, fewer, TrainingTask(end_ms, config))

    for page in ("docs/how-to/extend.md", "docs/faq.md"):
        assert f"{needed:,}" in (PROJECT_ROOT / page).read_text(), page
    assert f"{least_candles(TrainingConfig()):,} needed" in str(Settings.model_fields["history_candles"].description)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=st.integers(700, 2199), factor=st.floats(1.01, 3))
def test_a_sample_knows_only_candles_before_its_target(row: int, factor: float) -> None:
    def samples(own: Candles, bitcoin: Candles) -> list[tuple[torch.Tensor, torch.Tensor, np.ndarray]]:
        split = prepare(own, bitcoin, TrainingTask(_end_ms(own, Interval.H4), small(Interval.H4))).split
        return [(part.sequence, part.static, part.target_open_ms) for part in (split.train, split.holdout)]

    def altered(candles: Candles) -> Candles:
        changed = {name: column.copy() for name, column in vars(candles).items()}
        for name in ("open", "high", "low", "close", "volume"):
            changed[name][row] *= factor
        return Candles(**changed)

    own, bitcoin = FOUR_HOURS
    changed = samples(altered(own), altered(bitcoin))
    target_ms = int(own.open_time_ms[row])
    for (sequence, static, times), (sequence_after, static_after, _) in zip(
        samples(own, bitcoin), changed, strict=True
    ):
        known = times <= target_ms
        assert torch.equal(sequence[known], sequence_after[known])
        assert torch.equal(static[known], static_after[known])


def test_later_candles_change_no_bit_of_a_model_of_four_hours() -> None:
    own, bitcoin = FOUR_HOURS
    as_of_ms, config = _end_ms(own, Interval.H4) - 50 * Interval.H4.ms, small(Interval.H4)
    models = [
        fit(a, b, pair="eth_usdt", task=TrainingTask(as_of_ms, config))
        for a, b in ((own, bitcoin), (own[:-50], bitcoin[:-50]))
    ]
    assert models[0].onnx == models[1].onnx
    assert models[0].weights == models[1].weights
    assert models[0].metrics == models[1].metrics


def test_the_hour_of_the_week_has_fractions() -> None:
    monday_ms = 4 * 24 * 3_600_000
    times = monday_ms + np.array([0, 1, 53, 671]) * Interval.M15.ms
    assert hour_of_week(times).tolist() == [0.0, 0.25, 13.25, 167.75]


@pytest.mark.slow
@pytest.mark.recorded("klines-1h", "klines-5m")
@pytest.mark.parametrize("interval", OTHERS)
def test_each_interval_is_trained_on_real_candles(interval: Interval) -> None:
    """The folder of hours is resampled to 4h and 1d, that of five minutes to 15m."""
    folder = recorded("klines-5m" if interval == Interval.M15 else "klines-1h")
    candles = read_recorded(folder, [Pair("btc", "usdt"), Pair("eth", "usdt")], interval)
    as_of_ms = _end_ms(candles["eth_usdt"], interval)
    config = replace(TrainingConfig.of(interval), training=min(3000, TrainingConfig.of(interval).training))
    fitted = fit(candles["eth_usdt"], candles["btc_usdt"], pair="eth_usdt", task=TrainingTask(as_of_ms, config))
    assert 0.6 < fitted.metrics["coverage_80"] < 0.95
    assert fitted.metrics["skill_vs_naive"] > -0.05
