"""Where a training job runs: decided from what the Ray cluster has or can start, never from the driver's machine.

Ray's open-source autoscaler tells nobody which nodes it could start. So the job asks: it requests a place for each
worker, as a placement group of its own, and the autoscaler starts nodes for the requests or reports them infeasible.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ray
from ray._raylet import GcsClient
from ray.autoscaler.v2.utils import is_autoscaler_v2
from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group

from make_us_rich.core.errors import NoPlacement

_POLL_S = 1
_TELL_S = 30
_SETTLE_S = 10  # for places that a job before this one is just giving back
_ANSWER_S = 20  # for the autoscaler to look at a request
_JOIN_S = 60  # for nodes of a cluster that is itself just starting
_LATE_NODES_S = 120  # for more places once there is one
_PATIENCE_S = 15 * 60  # for busy places, and for nodes that the autoscaler starts

Shape = Mapping[str, float]


@dataclass(frozen=True)
class Placement:
    """As many workers, each with a CPU and this share of a GPU."""

    workers: int
    gpu: float

    @property
    def each(self) -> dict[str, float]:
        return {"CPU": 1, "GPU": self.gpu} if self.gpu else {"CPU": 1}


def find_placement(most: int, gpu_share: float) -> Placement:
    """Placement for up to `most` workers: on GPUs that are free or can be started, one worker each, otherwise on CPUs.

    Waits up to 15 minutes for CPUs in use and for nodes that the autoscaler starts. Raises NoPlacement after one
    minute when no node that the cluster has or can start would hold a worker. `gpu_share` 0 asks for no GPU.
    """
    if gpu_share:
        found = _ask(most, {"CPU": 1, "GPU": gpu_share}, busy_s=_SETTLE_S, join_s=0)
        if found:
            return Placement(min(found, max(1, int(ray.cluster_resources().get("GPU", 0)))), gpu_share)
    found = _ask(most, {"CPU": 1}, busy_s=_PATIENCE_S, join_s=_JOIN_S)
    if not found and _room_of_present_nodes({"CPU": 1}):
        raise NoPlacement(_why_none({"CPU": 1}, coming=False))
    if not found:
        raise NoPlacement(
            "no node that the Ray cluster has or can start holds a training worker, which needs one CPU: start a Ray "
            f"worker, or let a worker group grow above zero. The cluster has {_cpus_and_gpus(ray.cluster_resources())}"
        )
    return Placement(found, 0)


def _ask(most: int, shape: Shape, busy_s: float, join_s: float) -> int:
    """How many workers of this shape, up to `most`, have a place by now.

    0 after `busy_s` when others use all places, and after `join_s` when there are none and no node is coming.
    """
    requests = [placement_group([dict(shape)]) for _ in range(most)]
    try:
        return _wait(requests, shape, busy_s, join_s)
    finally:
        for request in requests:
            remove_placement_group(request)


def _wait(requests: Sequence[PlacementGroup], shape: Shape, busy_s: float, join_s: float) -> int:
    autoscaler = _Autoscaler(requests)
    began = told = time.monotonic()
    while True:
        waited_s = time.monotonic() - began
        open_requests = [request for request in requests if not _is_ready(request)]
        ready = len(requests) - len(open_requests)
        coming = autoscaler.accepts(open_requests, waited_s)
        could = min(_room_of_present_nodes(shape), len(requests))
        if not open_requests or (
            ready and (waited_s > _LATE_NODES_S or (not coming and (ready >= could or waited_s > _SETTLE_S)))
        ):
            return ready
        if not (ready or coming) and waited_s >= (busy_s if could else join_s):
            return 0
        if waited_s > _PATIENCE_S:
            raise NoPlacement(_why_none(shape, coming))
        if time.monotonic() - told > _TELL_S:
            told = time.monotonic()
            print(f"waiting for {waited_s:.0f} s: {_why_none(shape, coming)}", flush=True)
        time.sleep(_POLL_S)


class _Autoscaler:
    """What Ray's autoscaler (version 2, as KubeRay runs it) makes of requests; another one starts no nodes for us."""

    def __init__(self, requests: Sequence[PlacementGroup]) -> None:
        self._gcs = GcsClient(ray.get_runtime_context().gcs_address)
        self._exists = is_autoscaler_v2(gcs_client=self._gcs)
        self._asked_at = math.inf  # version of the cluster's state that has the requests
        self._requests = {request.id.hex() for request in requests}

    def accepts(self, requests: Sequence[PlacementGroup], waited_s: float) -> bool:
        """Whether it is starting a node for one of them, or has not looked at them yet."""
        if not self._exists or not requests:
            return False
        reply = GetClusterStatusReply.FromString(self._gcs.get_cluster_status(timeout_s=10))
        state = reply.cluster_resource_state
        if any(_id(item.details) in self._requests for item in state.pending_gang_resource_requests):
            self._asked_at = min(self._asked_at, state.cluster_resource_state_version)
        if reply.autoscaling_state.last_seen_cluster_resource_state_version < self._asked_at:
            return waited_s < _ANSWER_S
        refused = {_id(item.details) for item in reply.autoscaling_state.infeasible_gang_resource_requests}
        return any(request.id.hex() not in refused for request in requests)


def _id(details: str) -> str:
    """Of "{placement group}:{strategy}|{state}", as Ray describes a request, the placement group."""
    return details.partition(":")[0]


def _is_ready(request: PlacementGroup) -> bool:
    return placement_group_table(request)["state"] == "CREATED"


def _room_of_present_nodes(shape: Shape) -> int:
    """Workers that the nodes would hold if nothing else ran on them."""
    return sum(
        min(int(node["Resources"].get(name, 0) / amount) for name, amount in shape.items())
        for node in ray.nodes()
        if node["Alive"]
    )


def _why_none(shape: Shape, coming: bool) -> str:
    wanted = _cpus_and_gpus(shape)
    if coming:
        way_out = "; MUR_GPUS_PER_WORKER=0 trains on CPUs" if "GPU" in shape else ""
        return f"the node for a training worker with {wanted} has not joined the cluster: see `ray status`{way_out}"
    free = _cpus_and_gpus(ray.available_resources())
    return f"no free place for a training worker with {wanted}: other jobs leave {free} over all nodes"


def _cpus_and_gpus(resources: Shape) -> str:
    return f"{resources.get('CPU', 0):g} CPU and {resources.get('GPU', 0):g} GPU"
