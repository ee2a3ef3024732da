"""Networks that are trained as one batch end as each would alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from make_us_rich.core.interval import Interval
from make_us_rich.documents import HORIZONS
from make_us_rich.forecasting import networks
from make_us_rich.forecasting.architectures import ARCHITECTURES, TrainingConfig, architecture, to_npz
from make_us_rich.forecasting.batched import BatchedNetworks, train_batched
from make_us_rich.forecasting.features import feature_layout
from make_us_rich.forecasting.recipe import PreparedPair, prepare, train_pair
from make_us_rich.forecasting.samples import Samples
from make_us_rich.forecasting.training import TrainedNetwork
from tests.unit.forecasting.random_candles import AS_OF_MS, SMALL, random_candles

BITCOIN = random_candles(1)
BATCHABLE = [name for name in ARCHITECTURES if name != "level_mse"]  # level_mse cannot be shared by pairs


def _prepare(config: TrainingConfig, seeds: Sequence[int] = (2, 3, 4)) -> dict[str, PreparedPair]:
    markets = {f"pair{seed}": random_candles(seed, price=10.0**seed) for seed in seeds}
    return {
        pair: prepare(candles, BITCOIN, interval=Interval.H1, as_of_ms=AS_OF_MS, config=config)
        for pair, candles in markets.items()
    }


def _foundation(config: TrainingConfig) -> bytes:
    (prepared,) = _prepare(config, [5]).values()
    trained = train_pair(prepared, as_of_ms=AS_OF_MS, config=config)
    return to_npz(trained.network, AS_OF_MS)


def _weights(trained: TrainedNetwork) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in trained.network.state_dict().items()}


@pytest.mark.parametrize("name", BATCHABLE)
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")  # a CPU's attention in vmap
def test_each_network_learns_what_it_would_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "_DROPOUT", 0.0)  # its masks differ in a batch
    config = replace(SMALL, architecture=name, fine_tune_learning_rate=3e-3)
    foundation, prepared = _foundation(config), _prepare(config)

    trained = train_batched(prepared, as_of_ms=AS_OF_MS, config=config, foundation=foundation)

    assert list(trained) == list(prepared)
    for pair, item in prepared.items():
        alone = train_pair(item, as_of_ms=AS_OF_MS, config=config, foundation=foundation)
        assert trained[pair].start == alone.start == "weights"
        for epoch, expected in zip(trained[pair].curves, alone.curves, strict=True):
            assert epoch == pytest.approx(expected, rel=1e-4)
        for weight, value in _weights(alone).items():
            np.testing.assert_allclose(_weights(trained[pair])[weight], value, rtol=1e-3, atol=1e-4)


def test_batched_training_is_repeatable_and_each_network_has_its_own_dropout() -> None:
    foundation, prepared = _foundation(SMALL), _prepare(SMALL, [2])
    twins = {"one": prepared["pair2"], "other": prepared["pair2"]}

    first, second = (train_batched(twins, as_of_ms=AS_OF_MS, config=SMALL, foundation=foundation) for _ in range(2))

    for pair in twins:
        assert first[pair].curves == second[pair].curves
    assert first["one"].curves != first["other"].curves


def test_pairs_are_batched_by_number_of_samples_and_a_single_one_is_left_out() -> None:
    prepared = _prepare(SMALL, [2, 3])
    for pair, first in (("young", 150), ("also_young", 150), ("alone", 250)):
        market = random_candles(6)[first:]
        prepared[pair] = prepare(market, BITCOIN, interval=Interval.H1, as_of_ms=AS_OF_MS, config=SMALL)

    trained = train_batched(prepared, as_of_ms=AS_OF_MS, config=SMALL, foundation=_foundation(SMALL))

    assert set(trained) == {"pair2", "pair3", "young", "also_young"}


def test_gradients_of_each_network_are_clipped_as_for_one() -> None:
    torch.manual_seed(0)
    each = [architecture("lstm").build(feature_layout(Interval.H1), 4, 8) for _ in range(3)]
    batched = BatchedNetworks(each)
    sizes = torch.tensor([0.01, 1.0, 100.0])
    for parameter in batched.parameters():
        parameter.grad = torch.randn_like(parameter) * sizes.view(-1, *[1] * (parameter.dim() - 1))
    for index, network in enumerate(each):
        for own, parameter in zip(network.parameters(), batched.parameters(), strict=True):
            own.grad = parameter.grad[index].clone()
        network.clip_gradients(1.0)

    batched.clip_gradients(1.0)

    for index, network in enumerate(each):
        for own, parameter in zip(network.parameters(), batched.parameters(), strict=True):
            torch.testing.assert_close(parameter.grad[index], own.grad)


@pytest.mark.parametrize("name", BATCHABLE)
def test_training_stays_on_the_device_of_its_samples(name: str) -> None:
    """Torch's fake tensors raise when devices are mixed, without needing a second device."""
    layout = feature_layout(Interval.H1)
    with FakeTensorMode(allow_non_fake_inputs=True):
        with torch.device("meta"):
            network = architecture(name).build(layout, 4, 8)
            samples = Samples(
                torch.empty(600, 8, layout.sequence_size),
                torch.empty(600, layout.static_size),
                torch.empty(600, HORIZONS),
                torch.empty(600, HORIZONS),
                np.arange(600),
            )
        network.fit_scaling(samples)
        network.loss(samples.sequence, samples.static, samples.target).backward()
        network.clip_gradients(1.0)
        network.adapt_to_pair(samples)
        network.calibrate(samples)
        network(samples.sequence, samples.static)
