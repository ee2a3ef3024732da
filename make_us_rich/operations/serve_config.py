"""Builds Ray Serve's declarative configuration from the tracked pairs and their models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from make_us_rich.core.pair import Pair, model_name
from make_us_rich.core.settings import Settings
from make_us_rich.database.pairs import TrackedPair
from make_us_rich.registry.client import ModelVersion

GATEWAY = "gateway"
FORECASTER = "forecaster"
POOL = "pool"

REQUEST_TIMEOUT_S = 30.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def desired_config(
    settings: Settings, pairs: Sequence[TrackedPair], models: Mapping[Pair, ModelVersion]
) -> dict[str, Any]:
    """Return the configuration, as JSON: the gateway at /, an application for each dedicated pair, one for the pool.

    `models` is by pair; a pair without a model is not served. The model is in user_config, so that a replica swaps to a
    new one in place; any other change restarts the replica.
    """
    address = urlsplit(settings.api_url)
    http_options = {
        "host": "127.0.0.1" if address.hostname in _LOOPBACK else "0.0.0.0",
        "port": address.port or 8000,
        "request_timeout_s": REQUEST_TIMEOUT_S,
    }
    wanted = {pair: _wanted_model(model) for pair, model in models.items()}
    cpus = settings.replica_cpus
    applications = [_application(GATEWAY, "/", cpus, num_replicas=settings.gateway_replicas)]
    for tracked in pairs:
        if tracked.plan == "dedicated" and tracked.pair in wanted:
            name = model_name(tracked.pair, settings.interval)
            deployment = {"user_config": wanted[tracked.pair], **_replicas(settings, tracked)}
            applications.append(
                _application(FORECASTER, None, cpus, name=name, args={"pair": tracked.pair}, **deployment)
            )
    pooled = {
        tracked.pair: wanted[tracked.pair] for tracked in pairs if tracked.plan == "pooled" and tracked.pair in wanted
    }
    if pooled:
        applications.append(_application(POOL, None, cpus, num_replicas=1, user_config=pooled))
    # The gateway writes its own log line for every request.
    logging = {"encoding": "JSON", "enable_access_log": False}
    return {"http_options": http_options, "logging_config": logging, "applications": applications}


def _wanted_model(model: ModelVersion) -> dict[str, str | int]:
    return {"name": model.name, "version": model.version, "run_id": model.run_id}


# A gateway reports waiting calls to Ray every ten seconds by default; the first call of a stopped pair waits as long.
_QUICK_TO_WAKE = {"metrics_interval_s": 0.5, "look_back_period_s": 1.0}


def _replicas(settings: Settings, tracked: TrackedPair) -> dict[str, Any]:
    """Return the autoscaling of a pair: up at once, down after a while, and started once to check its model."""
    if tracked.min_replicas == tracked.max_replicas:
        return {"num_replicas": tracked.min_replicas}
    autoscaling = {
        "min_replicas": tracked.min_replicas,
        "max_replicas": tracked.max_replicas,
        "target_ongoing_requests": settings.ongoing_calls_a_replica,
        "upscale_delay_s": 0,
        "downscale_delay_s": settings.idle_replica_s,
    }
    if tracked.min_replicas == 0:
        autoscaling |= {"initial_replicas": 1, **_QUICK_TO_WAKE}
    return {"autoscaling_config": autoscaling}


def _application(
    builder: str,
    route: str | None,
    cpus: float,
    *,
    name: str | None = None,
    args: Mapping[str, str] | None = None,
    **deployment: Any,
) -> dict[str, Any]:
    """Return an application of one deployment; `builder` is a function of serve_app/app.py, and names both."""
    always = {"name": builder, "max_ongoing_requests": 1000, "ray_actor_options": {"num_cpus": cpus}}
    return {
        "name": name or builder,
        "route_prefix": route,
        "import_path": f"serve_app.app:{builder}",
        "args": dict(args or {}),
        "deployments": [always | deployment],
    }
