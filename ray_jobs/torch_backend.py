"""The process group of Ray Train's workers, on the network interface by which their nodes reach each other."""

from __future__ import annotations

import os
from dataclasses import dataclass

import psutil
import ray.util
from ray.train._internal.base_worker_group import BaseWorkerGroup
from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend

_INTERFACE = "GLOO_SOCKET_IFNAME"


class _Backend(_TorchBackend):
    """Gloo itself uses the address of the host's name, which is 127.0.1.1 on Debian: no other host reaches it."""

    def on_start(self, worker_group: BaseWorkerGroup, backend_config: TorchConfig) -> None:  # type: ignore[override]
        worker_group.execute(_use_interface_of_node)
        super().on_start(worker_group, backend_config)


@dataclass
class NodeTorchConfig(TorchConfig):
    """TorchConfig whose workers listen on the interface of their Ray node's address; GLOO_SOCKET_IFNAME overrides."""

    @property
    def backend_cls(self) -> type[_Backend]:
        return _Backend


def _use_interface_of_node() -> None:
    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address == address for each in addresses):
            os.environ.setdefault(_INTERFACE, name)
