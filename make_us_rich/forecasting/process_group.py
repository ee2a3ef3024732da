"""Workers that train one network together: each takes its part of every batch, and gradients are averaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


def _distributed(module: nn.Module) -> nn.Module:
    return DistributedDataParallel(module, forward_sync_buffers=False)


@dataclass(frozen=True)
class ProcessGroup:
    """One worker alone by default. More of them are members of torch's process group, which somebody else set up.

    All see the same rows in the same order and start from the same weights, so the averaged gradients keep their
    networks equal without ever comparing them. `wrap` makes a module average its gradients over all members.
    """

    rank: int = 0
    size: int = 1
    wrap: Callable[[nn.Module], nn.Module] = _distributed

    def shared(self, module: nn.Module) -> nn.Module:
        """The module, with gradients averaged over the group; every member has to call it."""
        return module if self.size == 1 else self.wrap(module)

    def part(self, batch: Tensor) -> Tensor:
        """This worker's rows of a batch; never none, so that there is a gradient to give."""
        own = batch[self.rank :: self.size]
        return own if len(own) else batch[:1]

    def weight(self, batch: Tensor) -> float:
        """What to multiply the mean loss of this worker's part with, such that the average over all workers is the mean
        loss of the batch, whose parts may differ by a row or be empty."""
        return len(batch[self.rank :: self.size]) * self.size / len(batch)

    def first_error(self, error: str) -> str:
        """What went wrong for the first worker that something went wrong for; every worker has to ask."""
        if self.size == 1:
            return error
        errors: list[str] = [""] * self.size
        distributed.all_gather_object(errors, error)
        return next(filter(None, errors), "")
