"""The networks of many pairs as one, so that every operation gives a GPU enough to do."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.functional import linear

from make_us_rich.forecasting.networks import Loss, Network


class BatchedNetworks(nn.Module):
    """K networks of one architecture, trained side by side as each would be alone: `loss` gives K losses.

    Its parameters and buffers are theirs, behind a first dimension of K.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        super().__init__()
        self._networks = networks
        self.each = Loss(_stackable(networks[0]))
        parameters, buffers = stack_module_state([Loss(network) for network in networks])
        for name, tensor in {**parameters, **buffers}.items():
            owner, _, leaf = name.rpartition(".")
            kept = nn.Parameter(tensor.detach()) if name in parameters else tensor
            setattr(self.each.get_submodule(owner), leaf, kept)

    def loss(self, sequence: Tensor, static: Tensor, target: Tensor) -> Tensor:
        """[K], of rows [n, K, ...]: at each place the K networks' rows beside each other."""
        state = dict(self.each.named_parameters()), dict(self.each.named_buffers())
        losses = vmap(self._loss, in_dims=(0, 1, 1, 1), randomness="different")
        each: Tensor = losses(state, sequence, static, target)
        return each

    def _loss(self, state: object, sequence: Tensor, static: Tensor, target: Tensor) -> Tensor:
        loss: Tensor = functional_call(self.each, state, (sequence, static, target))  # type: ignore[arg-type]
        return loss

    def cut_gradients(self, most: float) -> None:
        """Each network's at this norm, as clip_grad_norm_ does for one."""
        gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
        share = (most / (norms + 1e-6)).clamp(max=1)
        for gradient in gradients:
            gradient.mul_(share.view(-1, *[1] * (gradient.dim() - 1)))

    def unstack(self) -> list[Network]:
        """The networks it was made of, with what they have learned."""
        state = self.each.network.state_dict()
        for index, network in enumerate(self._networks):
            network.load_state_dict({name: tensor[index] for name, tensor in state.items()})
        return list(self._networks)


def _stackable(network: Network) -> Network:
    """A copy that reads candle by candle: vmap knows no fused recurrent layers."""
    copied = copy.deepcopy(network)
    for name, layer in network.named_modules():
        stepwise = _STEPWISE.get(type(layer))
        if stepwise is not None and layer.num_layers == 1:
            copied.set_submodule(name, stepwise(layer.input_size, layer.hidden_size, batch_first=True))
    return copied


class _Lstm(nn.LSTM):
    weight_ih_l0: Tensor
    weight_hh_l0: Tensor
    bias_ih_l0: Tensor
    bias_hh_l0: Tensor

    def forward(self, steps: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        inputs = linear(steps, self.weight_ih_l0, self.bias_ih_l0 + self.bias_hh_l0)
        hidden = cell = steps.new_zeros(len(steps), self.hidden_size)
        states = []
        for now in inputs.unbind(1):
            gates = (now + linear(hidden, self.weight_hh_l0)).chunk(4, dim=-1)
            opening, forgetting, giving = gates[0].sigmoid(), gates[1].sigmoid(), gates[3].sigmoid()
            cell = forgetting * cell + opening * gates[2].tanh()
            hidden = giving * cell.tanh()
            states.append(hidden)
        return torch.stack(states, dim=1), None


class _Gru(nn.GRU):
    weight_ih_l0: Tensor
    weight_hh_l0: Tensor
    bias_ih_l0: Tensor
    bias_hh_l0: Tensor

    def forward(self, steps: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        inputs = linear(steps, self.weight_ih_l0, self.bias_ih_l0)
        hidden = steps.new_zeros(len(steps), self.hidden_size)
        states = []
        for now in inputs.unbind(1):
            new_reset, new_update, new = now.chunk(3, dim=-1)
            old_reset, old_update, old = linear(hidden, self.weight_hh_l0, self.bias_hh_l0).chunk(3, dim=-1)
            update = (new_update + old_update).sigmoid()
            proposed = (new + (new_reset + old_reset).sigmoid() * old).tanh()
            hidden = (1 - update) * proposed + update * hidden
            states.append(hidden)
        return torch.stack(states, dim=1), None


_STEPWISE: dict[type[nn.Module], Callable[..., nn.Module]] = {nn.LSTM: _Lstm, nn.GRU: _Gru}
