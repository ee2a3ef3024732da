"""What Ray Serve should run, from the settings and the registry; no import of Ray, so that Airflow can call it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from make_us_rich.errors import ServingError
from make_us_rich.pairs import Pair
from make_us_rich.registry import CHAMPION, ModelVersion, Registry, model_name
from make_us_rich.settings import Settings, get_settings

GATEWAY = "gateway"
FORECASTER = "forecaster"
POOL = "pool"

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_APPLICATIONS = "/api/serve/applications/"
_POLL_S = 0.1
_REQUEST_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class AppliedServing:
    """Versions by name of pair and interval, and the pairs that have nothing to serve yet."""

    applications: Mapping[str, int]
    without_champion: tuple[str, ...]


def desired_config(settings: Settings, versions: Mapping[str, ModelVersion]) -> dict[str, Any]:
    """Ray Serve's declarative config: the gateway at /, an application a pair, and one for all pooled pairs.

    `versions` by pair; a pair without one is not served. A version stands in user_config, so that a new one is
    swapped in place; anything else that changes restarts the replica.
    """
    address = urlsplit(settings.api_url)
    http_options = {
        "host": "127.0.0.1" if address.hostname in _LOOPBACK else "0.0.0.0",
        "port": address.port or 8000,
        "request_timeout_s": _REQUEST_TIMEOUT_S,
    }
    served = [pair for pair in settings.pairs if pair in versions]
    keys = {pair: {"version": versions[pair].version, "run_id": versions[pair].run_id} for pair in served}
    applications = [_application(GATEWAY, GATEWAY, "/", num_replicas=settings.gateway_replicas)]
    for pair in served:
        if pair not in settings.pooled_pairs:
            name = model_name(Pair.parse(pair), settings.interval)
            applications.append(_application(name, FORECASTER, None, {"pair": pair}, user_config=keys[pair]))
    pooled = {pair: keys[pair] for pair in settings.pooled_pairs if pair in keys}
    if pooled:
        applications.append(_application(POOL, POOL, None, user_config=pooled))
    return {"http_options": http_options, "applications": applications}


def _application(
    name: str, builder: str, route: str | None, arguments: Mapping[str, str] | None = None, **deployment: Any
) -> dict[str, Any]:
    """One deployment, named like its builder in serve_app/app.py."""
    always = {"name": builder, "max_ongoing_requests": 1000, "ray_actor_options": {"num_cpus": 0}}
    return {
        "name": name,
        "route_prefix": route,
        "import_path": f"serve_app.app:{builder}",
        "args": dict(arguments or {}),
        "deployments": [{"num_replicas": 1} | always | deployment],
    }


def champions(settings: Settings) -> dict[str, ModelVersion]:
    """The champion of each configured pair that has one. Raises RegistryError."""
    with Registry(settings.mlflow_url) as registry:
        found = {
            pair: registry.find(model_name(Pair.parse(pair), settings.interval), CHAMPION)
            for pair in settings.pairs
        }
    return {pair: version for pair, version in found.items() if version is not None}


def apply(settings: Settings, *, timeout_s: float = 120.0) -> AppliedServing:
    """Let Ray Serve run the champions of this moment, and wait until they answer.

    Raises RegistryError when the registry does not answer (nothing is changed then), ServingError when Ray Serve
    refuses, is late, or a replica refuses its new version.
    """
    versions = champions(settings)
    config = desired_config(settings, versions)
    wanted = {
        model_name(Pair.parse(pair), settings.interval): version.version for pair, version in versions.items()
    }
    applications = [application["name"] for application in config["applications"]]
    token = settings.ray_token.get_secret_value()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(headers=headers, timeout=_REQUEST_TIMEOUT_S) as ray:
        _checked(ray, "PUT", settings.ray_url + _APPLICATIONS, json=config)
        _wait_until_serving(ray, settings, applications, wanted, time.monotonic() + timeout_s)
    missing = tuple(pair for pair in settings.pairs if pair not in versions)
    return AppliedServing(wanted, missing)


def _wait_until_serving(
    ray: httpx.Client,
    settings: Settings,
    applications: Sequence[str],
    wanted: Mapping[str, int],
    deadline: float,
) -> None:
    while True:
        waiting = _not_running(ray, settings, applications) or _not_answering(settings, wanted)
        if not waiting:
            return
        if time.monotonic() > deadline:
            raise ServingError(
                f"Ray Serve is late: {waiting}. Its logs are in the Ray dashboard, {settings.ray_url}"
            )
        time.sleep(_POLL_S)


def _not_running(ray: httpx.Client, settings: Settings, applications: Sequence[str]) -> str:
    running = _checked(ray, "GET", settings.ray_url + _APPLICATIONS).json()["applications"]
    for name in applications:
        state = running.get(name, {"status": "NOT_STARTED", "message": ""})
        if state["status"] == "DEPLOY_FAILED":
            raise ServingError(f"Ray Serve could not deploy {name}: {state['message']}")
        if state["status"] != "RUNNING":
            return f"{name} is {state['status']} {state['message']}".strip()
    return ""


def _not_answering(settings: Settings, wanted: Mapping[str, int]) -> str:
    try:
        states = httpx.get(f"{settings.api_url}/readyz", timeout=_REQUEST_TIMEOUT_S).json()["pairs"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        return f"{settings.api_url}/readyz does not answer ({error!r})"
    for name, version in wanted.items():
        state = states.get(
            name, {"version": None, "wanted": None, "refused": None, "reason": "unknown to the gateway"}
        )
        if state["wanted"] == version and state["refused"]:
            raise ServingError(
                f"{name} refuses version {version} and serves {state['version'] or 'nothing'}: {state['refused']}"
            )
        if state["version"] != version:
            return f"{name} serves {state['version'] or 'nothing'} instead of version {version}: {state['reason']}"
    return ""


def _checked(ray: httpx.Client, method: str, url: str, **rest: Any) -> httpx.Response:
    try:
        answer = ray.request(method, url, **rest)
    except httpx.HTTPError as error:
        raise ServingError(f"Ray at {url} cannot be reached ({error!r}): is it running?") from error
    if answer.is_error:
        raise ServingError(f"Ray answered {answer.status_code} to {method} {url}: {answer.text[:500]}")
    return answer


if __name__ == "__main__":
    print(apply(get_settings()))
