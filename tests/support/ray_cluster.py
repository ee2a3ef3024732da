"""Ray clusters on this machine, with simulated nodes and GPUs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import PROJECT_ROOT, free_port, running

_BIN = Path(sys.executable).parent
_HEAD_ID = "f" * 51 + "0" * 5
_MEMORY = 80_000_000
# with a token in the home directory Ray would require it
_ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    "PYTHONPATH": str(PROJECT_ROOT),
}


@contextmanager
def autoscaling_cluster(groups: Mapping[str, Mapping[str, int]], *, idle_s: float = 300) -> Iterator[str]:
    """Run a head without CPUs, with groups of nodes that the autoscaler starts on demand; gives its address.

    groups: for each name the resources of a node, and under "most" the largest number of nodes. idle_s: after how long
    the autoscaler ends a node on which nothing runs.
    """
    port = free_port()
    types: dict[str, object] = {
        name: {
            "resources": {key: value for key, value in group.items() if key != "most"}
            | {"object_store_memory": _MEMORY},
            "node_config": {},
            "min_workers": 0,
            "max_workers": group["most"],
        }
        for name, group in groups.items()
    }
    config = _CONFIG | {
        "idle_timeout_minutes": idle_s / 60,
        "provider": {
            "type": "external",  # by its own name Ray looks for a file that its wheel does not have
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "gcs_address": f"127.0.0.1:{port}",
            "head_node_id": _HEAD_ID,
            "launch_multiple": True,
        },
        "available_node_types": types
        | {"ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}},
    }
    environment = {
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": _HEAD_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": _HEAD_ID,
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    }
    with _folder() as folder:
        file = folder / "autoscaling.json"
        file.write_text(json.dumps(config))
        with _head(folder, port, [f"--autoscaling-config={file}", "--num-cpus=0"], environment) as address:
            yield address


@contextmanager
def fixed_cluster(cpus: int, gpus: int = 0) -> Iterator[str]:
    """Run one node without autoscaling; gives its address."""
    with _folder() as folder, _head(folder, free_port(), [f"--num-cpus={cpus}", f"--num-gpus={gpus}"], {}) as address:
        yield address


@contextmanager
def _head(folder: Path, port: int, more: list[str], environment: Mapping[str, str]) -> Iterator[str]:
    log = folder / "head.log"
    command = [str(_BIN / "ray"), "start", "--head", "--block", "--disable-usage-stats", f"--port={port}"]
    command += ["--node-ip-address=127.0.0.1", f"--ray-client-server-port={free_port()}"]
    command += ["--include-dashboard=false", f"--temp-dir={folder / 'ray'}", f"--object-store-memory={_MEMORY}"]
    command += ["--min-worker-port=0", "--max-worker-port=0", *more]

    def is_up() -> bool:
        return "Ray runtime started" in log.read_text()

    with running(command, is_up, log, _ENVIRONMENT | environment, timeout_s=120):
        yield f"127.0.0.1:{port}"


@contextmanager
def _folder() -> Iterator[Path]:
    """Make a folder with a short path, because Ray's sockets lie below it."""
    folder = Path(tempfile.mkdtemp(prefix="mur-ray-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def driver_environment(address: str) -> dict[str, str]:
    """Return the variables with which a driver uses a cluster."""
    return _ENVIRONMENT | {"RAY_ADDRESS": address, "RAY_DEDUP_LOGS": "0"}


def run_driver(address: str, code: str, *arguments: str, **environment: str) -> list[str]:
    """Run Python code as the driver of a Ray job; returns the lines of its output."""
    known = os.environ | driver_environment(address) | environment
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=known, capture_output=True, text=True, timeout=300, check=False
    )
    return [*done.stdout.splitlines(), *done.stderr.splitlines()]


_CONFIG: dict[str, object] = {
    "cluster_name": "test",
    "max_workers": 8,
    "upscaling_speed": 1.0,
    "head_node_type": "ray.head.default",
    "auth": {},
    "file_mounts": {},
    "cluster_synced_files": [],
    "file_mounts_sync_continuously": False,
    "rsync_exclude": [],
    "rsync_filter": [],
    "initialization_commands": [],
    "setup_commands": [],
    "head_setup_commands": [],
    "worker_setup_commands": [],
    "head_start_ray_commands": [],
    "worker_start_ray_commands": [],
}
