"""Decides where a training job runs, from what the Ray cluster has or can start, never from the driver's machine.

Ray's open-source autoscaler does not report which nodes it could start. So the job requests a placement group for each
worker, and the autoscaler starts nodes for the requests or reports them as infeasible.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray._raylet import GcsClient  # type: ignore[attr-defined]  # Ray's compiled modules have no type stubs
from ray.autoscaler.v2.utils import is_autoscaler_v2
from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply  # type: ignore[attr-defined]
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group

from make_us_rich.core.errors import NoPlacement

_POLL_S = 1
_LOG_S = 30
_RELEASE_S = 10  # time that an earlier job may take to release its resources
_AUTOSCALER_S = 20  # time that the autoscaler may take to notice a request
_JOIN_S = 60  # time that the nodes of a starting cluster may take to join
_MORE_WORKERS_S = 120  # time to wait for more workers once there is a place for one
_TIMEOUT_S = 15 * 60  # for CPUs in use, and for nodes that the autoscaler starts

Resources = Mapping[str, float]


@dataclass(frozen=True)
class Placement:
    """How many workers a job gets; each has one CPU and the share `gpu` of a GPU."""

    workers: int
    gpu: float

    @property
    def resources(self) -> dict[str, float]:
        return {"CPU": 1, "GPU": self.gpu} if self.gpu else {"CPU": 1}


def find_placement(max_workers: int, gpu_share: float) -> Placement:
    """Find a placement for up to `max_workers` workers: one a GPU that is free or can be started, otherwise on CPUs.

    Waits up to 15 minutes for CPUs in use and for nodes that the autoscaler starts. Raises NoPlacement, after one
    minute if no node that the cluster has or can start is large enough. `gpu_share` 0 requests no GPU.
    """
    if gpu_share:
        found = _count_places(max_workers, {"CPU": 1, "GPU": gpu_share}, busy_s=_RELEASE_S, join_s=0)
        if found:
            return Placement(min(found, max(1, int(_cluster_resources().get("GPU", 0)))), gpu_share)
    found = _count_places(max_workers, {"CPU": 1}, busy_s=_TIMEOUT_S, join_s=_JOIN_S)
    if not found and _capacity({"CPU": 1}):
        raise NoPlacement(_explain({"CPU": 1}, starting=False))
    if not found:
        raise NoPlacement(
            "no node that the Ray cluster has or can start holds a training worker, which needs one CPU: start a Ray "
            f"worker, or let a worker group grow above zero. The cluster has {_describe(_cluster_resources())}"
        )
    return Placement(found, 0)


def _count_places(max_workers: int, resources: Resources, busy_s: float, join_s: float) -> int:
    """Count the workers with these resources, up to `max_workers`, that can be placed.

    Returns 0 after `busy_s` when other jobs use all resources, and after `join_s` when no node is large enough and
    none is being started.
    """
    requests = [placement_group([dict(resources)]) for _ in range(max_workers)]
    try:
        return _wait(requests, resources, busy_s, join_s)
    finally:
        for request in requests:
            remove_placement_group(request)


def _wait(requests: Sequence[PlacementGroup], resources: Resources, busy_s: float, join_s: float) -> int:
    autoscaler = _Autoscaler(requests)
    began_s = logged_s = time.monotonic()
    while True:
        waited_s = time.monotonic() - began_s
        pending = [request for request in requests if not _is_ready(request)]
        ready = len(requests) - len(pending)
        starting = autoscaler.accepts(pending, waited_s)
        capacity = min(_capacity(resources), len(requests))
        if not pending or (
            ready and (waited_s > _MORE_WORKERS_S or (not starting and (ready >= capacity or waited_s > _RELEASE_S)))
        ):
            return ready
        if not (ready or starting) and waited_s >= (busy_s if capacity else join_s):
            return 0
        if waited_s > _TIMEOUT_S:
            raise NoPlacement(_explain(resources, starting))
        if time.monotonic() - logged_s > _LOG_S:
            logged_s = time.monotonic()
            print(f"waiting for {waited_s:.0f} s: {_explain(resources, starting)}", flush=True)
        time.sleep(_POLL_S)


# Ray 2.60 has no public way to learn that a request is infeasible: `ray.cluster_resources` knows present nodes, elastic
# ScalingConfig waits without a reason, and ClusterStatus of ray.autoscaler.v2.sdk leaves infeasible requests out. So
# this class reads the private reply of the GCS. An upgrade of Ray can break three things: `is_autoscaler_v2` and
# `GcsClient.get_cluster_status`, the four fields of GetClusterStatusReply that `accepts` reads, and the text of
# `details` that `_id` parses. The first two raise at the start of each job. With the last, a job gives a starting node
# up after 20 seconds and trains on fewer workers or on CPUs. tests/stacks/ray/test_training_places.py notices each.
class _Autoscaler:
    """Reads what Ray's autoscaler does about requests. Only version 2, which KubeRay runs, starts nodes for them."""

    def __init__(self, requests: Sequence[PlacementGroup]) -> None:
        self._gcs = GcsClient(ray.get_runtime_context().gcs_address)
        self._exists = is_autoscaler_v2(gcs_client=self._gcs)
        self._requested_at = math.inf  # version of the cluster state that first has the requests
        self._requests = {request.id.hex() for request in requests}

    def accepts(self, requests: Sequence[PlacementGroup], waited_s: float) -> bool:
        """Return whether it is starting a node for one of the requests, or has not noticed them yet."""
        if not self._exists or not requests:
            return False
        reply = GetClusterStatusReply.FromString(self._gcs.get_cluster_status(timeout_s=10))
        state = reply.cluster_resource_state
        if any(_id(item.details) in self._requests for item in state.pending_gang_resource_requests):
            self._requested_at = min(self._requested_at, state.cluster_resource_state_version)
        if reply.autoscaling_state.last_seen_cluster_resource_state_version < self._requested_at:
            return waited_s < _AUTOSCALER_S
        refused = {_id(item.details) for item in reply.autoscaling_state.infeasible_gang_resource_requests}
        return any(request.id.hex() not in refused for request in requests)


def _id(details: str) -> str:
    """Extract the placement group's id from Ray's description of a request, "{id}:{strategy}|{state}"."""
    return details.partition(":")[0]


def _is_ready(request: PlacementGroup) -> bool:
    return bool(placement_group_table(request)["state"] == "CREATED")


def _capacity(resources: Resources) -> int:
    """Count the workers that the present nodes would hold if nothing else ran on them."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return sum(
        min(int(node["Resources"].get(name, 0) / amount) for name, amount in resources.items())
        for node in nodes
        if node["Alive"]
    )


def _cluster_resources() -> Resources:
    resources: Resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources


def _explain(resources: Resources, starting: bool) -> str:
    wanted = _describe(resources)
    if starting:
        way_out = "; MUR_GPUS_PER_WORKER=0 trains on CPUs" if "GPU" in resources else ""
        return f"the node for a training worker with {wanted} has not joined the cluster: see `ray status`{way_out}"
    free = _describe(ray.available_resources())  # type: ignore[no-untyped-call]
    return f"no free place for a training worker with {wanted}: other jobs leave {free} over all nodes"


def _describe(resources: Resources) -> str:
    return f"{resources.get('CPU', 0):g} CPU and {resources.get('GPU', 0):g} GPU"
