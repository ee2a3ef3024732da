"""What Ray Serve should run: its declarative configuration, from the listed pairs and their models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from make_us_rich.core.settings import Settings
from make_us_rich.database.pairs import TrackedPair
from make_us_rich.registry.client import ModelVersion, model_name

GATEWAY = "gateway"
FORECASTER = "forecaster"
POOL = "pool"

REQUEST_TIMEOUT_S = 30.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def desired_config(
    settings: Settings, pairs: Sequence[TrackedPair], models: Mapping[str, ModelVersion]
) -> dict[str, Any]:
    """The gateway at /, an application a pair, and one for all pooled pairs.

    `models` by pair; a pair without one is not served. A model stands in user_config, so that a new one is swapped
    in place; anything else that changes restarts the replica.
    """
    address = urlsplit(settings.api_url)
    http_options = {
        "host": "127.0.0.1" if address.hostname in _LOOPBACK else "0.0.0.0",
        "port": address.port or 8000,
        "request_timeout_s": REQUEST_TIMEOUT_S,
    }
    served = [listed for listed in pairs if listed.pair in models]
    keys = {pair: _key(model) for pair, model in models.items()}
    cpus = settings.replica_cpus
    applications = [_application(GATEWAY, GATEWAY, "/", cpus, num_replicas=settings.gateway_replicas)]
    for listed in served:
        if listed.plan == "dedicated":
            name = model_name(listed.pair, settings.interval)
            replicas = _replicas(settings, listed)
            arguments, user_config = {"pair": listed.pair}, keys[listed.pair]
            applications.append(
                _application(name, FORECASTER, None, cpus, arguments, user_config=user_config, **replicas)
            )
    pooled = {listed.pair: keys[listed.pair] for listed in served if listed.plan == "pooled"}
    if pooled:
        applications.append(_application(POOL, POOL, None, cpus, num_replicas=1, user_config=pooled))
    # The gateway writes a line of its own for every request.
    logging = {"encoding": "JSON", "enable_access_log": False}
    return {"http_options": http_options, "logging_config": logging, "applications": applications}


def _key(model: ModelVersion) -> dict[str, Any]:
    return {"name": model.name, "version": model.version, "run_id": model.run_id}


# By default a gateway tells Ray every ten seconds how many calls wait: as long would the first call of a sleeping pair.
_QUICK_TO_WAKE = {"metrics_interval_s": 0.5, "look_back_period_s": 1.0}


def _replicas(settings: Settings, listed: TrackedPair) -> dict[str, Any]:
    """More at once when calls wait, fewer after a while; a pair that may sleep starts awake to check its model."""
    if listed.min_replicas == listed.max_replicas:
        return {"num_replicas": listed.min_replicas}
    autoscaling = {
        "min_replicas": listed.min_replicas,
        "max_replicas": listed.max_replicas,
        "target_ongoing_requests": settings.ongoing_calls_a_replica,
        "upscale_delay_s": 0,
        "downscale_delay_s": settings.idle_replica_s,
    }
    if listed.min_replicas == 0:
        autoscaling |= {"initial_replicas": 1, **_QUICK_TO_WAKE}
    return {"autoscaling_config": autoscaling}


def _application(
    name: str,
    builder: str,
    route: str | None,
    cpus: float,
    arguments: Mapping[str, str] | None = None,
    **deployment: Any,
) -> dict[str, Any]:
    """One deployment, named like its builder in serve_app/app.py."""
    always = {"name": builder, "max_ongoing_requests": 1000, "ray_actor_options": {"num_cpus": cpus}}
    return {
        "name": name,
        "route_prefix": route,
        "import_path": f"serve_app.app:{builder}",
        "args": dict(arguments or {}),
        "deployments": [always | deployment],
    }
