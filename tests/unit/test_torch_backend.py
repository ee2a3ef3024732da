"""Which backend the workers of a training job use."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from ray.train.torch.config import _TorchBackend
from torch import distributed

from ray_jobs.torch_backend import GLOO, NCCL, NodeTorchConfig


class _Workers:
    """A worker group, each worker of which has a PyTorch with or without CUDA."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, with_cuda: list[bool]) -> None:
        self._monkeypatch, self._with_cuda = monkeypatch, with_cuda

    def execute(self, function: Callable[[], object]) -> list[object]:
        results = []
        for has in self._with_cuda:
            self._monkeypatch.setattr(torch.cuda, "is_available", lambda has=has: has)
            self._monkeypatch.setattr(distributed, "is_nccl_available", lambda has=has: has)
            results.append(function())
        return results


@pytest.mark.parametrize(
    ("wanted", "with_cuda", "used"),
    [(NCCL, [True, True], NCCL), (NCCL, [True, False], GLOO), (NCCL, [False], GLOO), (GLOO, [True, True], GLOO)],
)
def test_nccl_is_used_where_every_worker_has_it(
    monkeypatch: pytest.MonkeyPatch, wanted: str, with_cuda: list[bool], used: str
) -> None:
    """The driver is on a head without CUDA, so its own PyTorch says nothing."""
    started: list[str | None] = []
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    monkeypatch.setattr("ray.util.get_node_ip_address", lambda: "127.0.0.1")
    monkeypatch.setattr(_TorchBackend, "on_start", lambda self, group, config: started.append(config.backend))
    config = NodeTorchConfig(backend=wanted)

    config.backend_cls().on_start(_Workers(monkeypatch, with_cuda), config)  # type: ignore[arg-type]

    assert started == [used]


def test_torch_takes_the_backend_of_workers_with_a_gpu() -> None:
    assert distributed.BackendConfig(distributed.Backend(NCCL)).get_device_backend_map() == {
        "cpu": "gloo",
        "cuda": "nccl",
    }
