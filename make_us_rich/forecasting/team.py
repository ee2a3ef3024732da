"""Workers that train one network together: each takes its part of every batch, and gradients are averaged."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn


@dataclass(frozen=True)
class Team:
    """One worker alone by default. More of them are members of torch's process group, which somebody else set up.

    All see the same rows in the same order and start from the same weights, so the averaged gradients keep their
    networks equal without ever comparing them.
    """

    rank: int = 0
    size: int = 1

    def part(self, batch: Tensor) -> Tensor:
        """This worker's rows of a batch; never none, so that there is a gradient to give."""
        own = batch[self.rank :: self.size]
        return own if len(own) else batch[:1]

    def average_gradients(self, network: nn.Module, batch: Tensor) -> None:
        """Make every worker's gradient that of the whole batch's mean loss."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        weight = len(batch[self.rank :: self.size]) / len(batch)
        together = weight * torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(together)
        for gradient, average in zip(
            gradients, torch.split(together, [gradient.numel() for gradient in gradients]), strict=True
        ):
            gradient.copy_(average.view_as(gradient))

    def first_error(self, error: str) -> str:
        """What went wrong for the first worker that something went wrong for; every worker has to ask."""
        if self.size == 1:
            return error
        errors: list[str] = [""] * self.size
        distributed.all_gather_object(errors, error)
        return next(filter(None, errors), "")
