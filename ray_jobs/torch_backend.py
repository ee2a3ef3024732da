"""The process group of Ray Train's workers, on the network interface by which their nodes reach each other."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import psutil
import ray.util
import torch
from ray.train._internal.base_worker_group import BaseWorkerGroup
from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend
from torch import distributed

_INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
GLOO = "gloo"
NCCL = "cpu:gloo,cuda:nccl"
"""NCCL for what is on a GPU, Gloo for the rest, such as the errors of the ranks."""


class _Backend(_TorchBackend):
    """Gloo itself uses the address of the host's name, which is 127.0.1.1 on Debian: no other host reaches it."""

    def on_start(self, worker_group: BaseWorkerGroup, backend_config: TorchConfig) -> None:  # type: ignore[override]
        worker_group.execute(_use_interface_of_node)
        # the job's driver runs on a head whose PyTorch may have no CUDA, so the workers decide
        if backend_config.backend == NCCL and not all(worker_group.execute(_has_nccl)):
            backend_config = replace(backend_config, backend=GLOO)
        super().on_start(worker_group, backend_config)


@dataclass
class NodeTorchConfig(TorchConfig):
    """TorchConfig whose workers listen on the interface of their Ray node's address, unless `_INTERFACES` are set.

    With the backend NCCL, a worker whose PyTorch cannot use CUDA makes all of them use Gloo alone.
    """

    @property
    def backend_cls(self) -> type[_Backend]:
        return _Backend


def _use_interface_of_node() -> None:
    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address == address for each in addresses):
            for variable in _INTERFACES:
                os.environ.setdefault(variable, name)


def _has_nccl() -> bool:
    return torch.cuda.is_available() and distributed.is_nccl_available()
