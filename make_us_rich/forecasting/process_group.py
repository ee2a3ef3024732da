"""Data-parallel training: several ranks train one network, each on its shard of every batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


def _data_parallel(module: nn.Module) -> nn.Module:
    return DistributedDataParallel(module, forward_sync_buffers=False)


@dataclass(frozen=True)
class ProcessGroup:
    """One rank of a process group; by default a single process.

    With a world size above 1 torch's process group must be initialised. All ranks hold the same samples in the same
    order and start from the same weights, so averaged gradients keep their networks equal. `wrap` makes a module
    average its gradients over all ranks.
    """

    rank: int = 0
    world_size: int = 1
    wrap: Callable[[nn.Module], nn.Module] = _data_parallel

    def data_parallel(self, module: nn.Module) -> nn.Module:
        """Return the module with gradients averaged over the group. Collective: every rank must call it."""
        return module if self.world_size == 1 else self.wrap(module)

    def shard(self, batch: Tensor) -> Tensor:
        """Return this rank's samples of a batch; at least one, because every rank must compute a gradient."""
        own = batch[self.rank :: self.world_size]
        return own if len(own) else batch[:1]

    def loss_weight(self, batch: Tensor) -> float:
        """Return the factor of this rank's mean loss that makes the average over ranks the mean loss of the batch.

        Shards differ in length by up to one sample and may be empty.
        """
        return len(batch[self.rank :: self.world_size]) * self.world_size / len(batch)

    def first_error(self, error: str) -> str:
        """Return the first error of any rank; empty if no rank has one. Collective: every rank must call it."""
        if self.world_size == 1:
            return error
        errors: list[str] = [""] * self.world_size
        distributed.all_gather_object(errors, error)
        return next(filter(None, errors), "")
