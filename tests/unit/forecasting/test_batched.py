"""Networks that are trained as one stack become what each would become alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from make_us_rich.core.interval import Interval
from make_us_rich.forecasting import networks
from make_us_rich.forecasting.architectures import ARCHITECTURES, architecture, to_npz
from make_us_rich.forecasting.batched import BatchedNetworks, train_batched
from make_us_rich.forecasting.features import SEQUENCE_FEATURES, STATIC_FEATURES
from make_us_rich.forecasting.pipeline import PreparedPair, prepare, train_pair
from make_us_rich.forecasting.samples import Samples
from make_us_rich.forecasting.training import TrainedNetwork
from make_us_rich.forecasting.training_config import TrainingConfig
from tests.unit.forecasting.random_candles import AS_OF_MS, SMALL, random_candles

BITCOIN = random_candles(1)
BATCHABLE = [name for name in ARCHITECTURES if name != "level_mse"]  # which cannot be shared


def _ready(config: TrainingConfig, seeds: Sequence[int] = (2, 3, 4)) -> dict[str, PreparedPair]:
    markets = {f"pair{seed}": random_candles(seed, price=10.0**seed) for seed in seeds}
    return {
        pair: prepare(candles, BITCOIN, interval=Interval.H1, as_of_ms=AS_OF_MS, config=config)
        for pair, candles in markets.items()
    }


def _foundation(config: TrainingConfig) -> bytes:
    (ready,) = _ready(config, [5]).values()
    trained = train_pair(ready, as_of_ms=AS_OF_MS, config=config)
    return to_npz(trained.network, AS_OF_MS)


def _weights(trained: TrainedNetwork) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in trained.network.state_dict().items()}


@pytest.mark.parametrize("name", BATCHABLE)
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")  # a CPU's attention in vmap
def test_each_learns_what_it_would_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "_DROPOUT", 0.0)  # its dice fall differently in a stack
    config = replace(SMALL, architecture=name, fine_tune_learning_rate=3e-3)
    foundation, ready = _foundation(config), _ready(config)

    together = train_batched(ready, as_of_ms=AS_OF_MS, config=config, foundation=foundation)

    assert list(together) == list(ready)
    for pair, item in ready.items():
        alone = train_pair(item, as_of_ms=AS_OF_MS, config=config, foundation=foundation)
        assert together[pair].start == alone.start == "weights"
        for epoch, expected in zip(together[pair].curves, alone.curves, strict=True):
            assert epoch == pytest.approx(expected, rel=1e-4)
        for weight, value in _weights(alone).items():
            np.testing.assert_allclose(_weights(together[pair])[weight], value, rtol=1e-3, atol=1e-4)


def test_a_stack_repeated_gives_the_same_numbers_and_dice_of_its_own_to_each() -> None:
    foundation, ready = _foundation(SMALL), _ready(SMALL, [2])
    twins = {"one": ready["pair2"], "other": ready["pair2"]}

    first, second = (train_batched(twins, as_of_ms=AS_OF_MS, config=SMALL, foundation=foundation) for _ in range(2))

    for pair in twins:
        assert first[pair].curves == second[pair].curves
    assert first["one"].curves != first["other"].curves


def test_pairs_of_other_sizes_make_stacks_of_their_own_and_one_alone_is_left_out() -> None:
    ready = _ready(SMALL, [2, 3])
    for pair, first in (("young", 150), ("also_young", 150), ("alone", 250)):
        market = random_candles(6)[first:]
        ready[pair] = prepare(market, BITCOIN, interval=Interval.H1, as_of_ms=AS_OF_MS, config=SMALL)

    together = train_batched(ready, as_of_ms=AS_OF_MS, config=SMALL, foundation=_foundation(SMALL))

    assert set(together) == {"pair2", "pair3", "young", "also_young"}


def test_gradients_are_cut_for_each_as_for_one() -> None:
    torch.manual_seed(0)
    each = [architecture("lstm").build(4, 8) for _ in range(3)]
    stack = BatchedNetworks(each)
    wild = torch.tensor([0.01, 1.0, 100.0])
    for parameter in stack.parameters():
        parameter.grad = torch.randn_like(parameter) * wild.view(-1, *[1] * (parameter.dim() - 1))
    for index, network in enumerate(each):
        for own, parameter in zip(network.parameters(), stack.parameters(), strict=True):
            own.grad = parameter.grad[index].clone()
        network.clip_gradients(1.0)

    stack.clip_gradients(1.0)

    for index, network in enumerate(each):
        for own, parameter in zip(network.parameters(), stack.parameters(), strict=True):
            torch.testing.assert_close(parameter.grad[index], own.grad)


@pytest.mark.parametrize("name", BATCHABLE)
def test_training_stays_on_the_device_of_its_rows(name: str) -> None:
    """Torch's fake tensors refuse to mix devices, whichever there are on this machine."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        with torch.device("meta"):
            network = architecture(name).build(4, 8)
            rows = Samples(
                torch.empty(600, 8, SEQUENCE_FEATURES),
                torch.empty(600, STATIC_FEATURES),
                torch.empty(600),
                np.arange(600),
            )
        network.fit_scaling(rows)
        network.loss(rows.sequence, rows.static, rows.target).backward()
        network.clip_gradients(1.0)
        network.adapt_to_pair(rows)
        network.calibrate(rows)
        network(rows.sequence, rows.static)
