"""Experimental: fine-tune the networks of many pairs as one batch, so that each operation is large enough for a GPU.

Off by default: `ray_jobs.train_pairs` uses it on a GPU when MUR_BATCHED_TRAINING is set. It is slower on a CPU, and its
gain on a GPU is not measured yet.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.functional import linear

from make_us_rich.forecasting.architectures import TrainingConfig, from_npz
from make_us_rich.forecasting.networks import Loss, Network
from make_us_rich.forecasting.recipe import PreparedPair
from make_us_rich.forecasting.samples import Samples, concatenate
from make_us_rich.forecasting.training import TrainedNetwork, copy_for_pair, fine_tuning, train_epochs

K = TypeVar("K")


def train_batched(
    prepared: Mapping[K, PreparedPair], *, as_of_ms: int, config: TrainingConfig, foundation: bytes, device: str = "cpu"
) -> dict[K, TrainedNetwork]:
    """Do what `recipe.train_pair` does for each of many pairs in one batch; only the dropout masks differ.

    Pairs with the same number of samples form a batch; a pair whose number no other pair has is left out.
    """
    start = from_npz(foundation, config, as_of_ms)
    by_size: dict[tuple[int, int], list[K]] = defaultdict(list)
    for pair, item in prepared.items():
        by_size[len(item.split.train), len(item.split.validation)].append(pair)
    trained: dict[K, TrainedNetwork] = {}
    for pairs in by_size.values():
        if len(pairs) > 1:
            samples = [prepared[pair].split.train.to(device) for pair in pairs]
            validation = [prepared[pair].split.validation.to(device) for pair in pairs]
            trained.update(zip(pairs, _fine_tune(start, samples, validation, config), strict=True))
    return trained


def _fine_tune(
    start: Network, samples: Sequence[Samples], validation: Sequence[Samples], config: TrainingConfig
) -> list[TrainedNetwork]:
    everything = [concatenate([old, new]) for old, new in zip(samples, validation, strict=True)]
    networks = BatchedNetworks([copy_for_pair(start, own, config) for own in everything])
    stacked = repeat(_stack(everything), config.fine_tune_epochs)
    epochs = list(train_epochs(networks, networks.loss, stacked, _stack(validation), fine_tuning(config)))
    trained = []
    for index, (network, own) in enumerate(zip(networks.unstack(), everything, strict=True)):
        network.calibrate(own[-config.calibration :])
        curves = [{name: float(loss[index]) for name, loss in losses.items()} for losses in epochs]
        trained.append(TrainedNetwork(network, curves, "weights"))
    return trained


def _stack(pairs: Sequence[Samples]) -> Samples:
    """Stack the samples of K pairs along a second dimension: one index then selects a sample of each pair."""
    return Samples(
        torch.stack([samples.sequence for samples in pairs], dim=1),
        torch.stack([samples.static for samples in pairs], dim=1),
        torch.stack([samples.target for samples in pairs], dim=1),
        torch.stack([samples.realised for samples in pairs], dim=1),
        np.stack([samples.target_open_ms for samples in pairs], axis=1),
    )


class BatchedNetworks(nn.Module):
    """K networks of one architecture as one module; each is trained as it would be alone.

    Parameters and buffers have a first dimension of K.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        super().__init__()
        self._networks = networks
        self.each = Loss(_without_fused_layers(networks[0]))
        parameters, buffers = stack_module_state([Loss(network) for network in networks])
        for name, tensor in {**parameters, **buffers}.items():
            owner, _, leaf = name.rpartition(".")
            kept = nn.Parameter(tensor.detach()) if name in parameters else tensor
            setattr(self.each.get_submodule(owner), leaf, kept)

    def loss(self, sequence: Tensor, static: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each network, [K]. The arguments have dimensions [n, K, ...]."""
        state = dict(self.each.named_parameters()), dict(self.each.named_buffers())
        losses = vmap(self._loss, in_dims=(0, 1, 1, 1), randomness="different")
        each: Tensor = losses(state, sequence, static, target)
        return each

    def _loss(self, state: object, sequence: Tensor, static: Tensor, target: Tensor) -> Tensor:
        loss: Tensor = functional_call(self.each, state, (sequence, static, target))  # type: ignore[arg-type]
        return loss

    def clip_gradients(self, max_norm: float) -> None:
        """Clip the gradients of each network at this norm, as clip_grad_norm_ does for one."""
        gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
        factor = (max_norm / (norms + 1e-6)).clamp(max=1)
        for gradient in gradients:
            gradient.mul_(factor.view(-1, *[1] * (gradient.dim() - 1)))

    def unstack(self) -> list[Network]:
        """Copy the trained state back into the single networks and return them."""
        state = self.each.network.state_dict()
        for index, network in enumerate(self._networks):
            network.load_state_dict({name: tensor[index] for name, tensor in state.items()})
        return list(self._networks)


def _without_fused_layers(network: Network) -> Network:
    """Copy a network and replace its fused recurrent layers, which vmap does not support, by step-by-step ones."""
    copied = copy.deepcopy(network)
    for name, layer in network.named_modules():
        stepwise = _STEPWISE.get(type(layer))
        if stepwise is not None and layer.num_layers == 1:
            copied.set_submodule(name, stepwise(layer.input_size, layer.hidden_size, batch_first=True))
    return copied


class _StepwiseLstm(nn.LSTM):
    weight_ih_l0: Tensor
    weight_hh_l0: Tensor
    bias_ih_l0: Tensor
    bias_hh_l0: Tensor

    def forward(self, steps: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        inputs = linear(steps, self.weight_ih_l0, self.bias_ih_l0 + self.bias_hh_l0)
        hidden = cell = steps.new_zeros(len(steps), self.hidden_size)
        states = []
        for step in inputs.unbind(1):
            gates = (step + linear(hidden, self.weight_hh_l0)).chunk(4, dim=-1)
            input_gate, forget_gate, output_gate = gates[0].sigmoid(), gates[1].sigmoid(), gates[3].sigmoid()
            cell = forget_gate * cell + input_gate * gates[2].tanh()
            hidden = output_gate * cell.tanh()
            states.append(hidden)
        return torch.stack(states, dim=1), None


class _StepwiseGru(nn.GRU):
    weight_ih_l0: Tensor
    weight_hh_l0: Tensor
    bias_ih_l0: Tensor
    bias_hh_l0: Tensor

    def forward(self, steps: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        inputs = linear(steps, self.weight_ih_l0, self.bias_ih_l0)
        hidden = steps.new_zeros(len(steps), self.hidden_size)
        states = []
        for step in inputs.unbind(1):
            new_reset, new_update, new = step.chunk(3, dim=-1)
            old_reset, old_update, old = linear(hidden, self.weight_hh_l0, self.bias_hh_l0).chunk(3, dim=-1)
            update = (new_update + old_update).sigmoid()
            candidate = (new + (new_reset + old_reset).sigmoid() * old).tanh()
            hidden = (1 - update) * candidate + update * hidden
            states.append(hidden)
        return torch.stack(states, dim=1), None


_STEPWISE: dict[type[nn.Module], Callable[..., nn.Module]] = {nn.LSTM: _StepwiseLstm, nn.GRU: _StepwiseGru}
