"""Makes Ray Serve run the series of the active pairs by the present champions: its configuration and deployment.

It imports no Ray, so that Airflow can call it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpx

from make_us_rich.client import Client, ServiceRefused, ServiceUnavailable, not_serving
from make_us_rich.core.errors import ServingError
from make_us_rich.core.pair import Series, foundation_name
from make_us_rich.core.responses import bearer, read_json
from make_us_rich.core.setting_types import least_and_most
from make_us_rich.core.settings import Settings
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.locks import advisory_lock
from make_us_rich.database.pairs import TrackedPair
from make_us_rich.database.pool import Database
from make_us_rich.documents import NamedVersion, UpdatedModels
from make_us_rich.registry import adapted
from make_us_rich.registry.client import CHAMPION, ModelVersion, Registry

GATEWAY = "gateway"
FORECASTER = "forecaster"
POOL = "pool"

REQUEST_TIMEOUT_S = 30.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_APPLICATIONS = "/api/serve/applications/"
_FIRST_POLL_S, _LONGEST_POLL_S = 0.1, 2.0
_RETRY_AFTER_S = 1.0
_NEW_PAIRS_TIMEOUT_S = 20.0
_GATEWAY_CHECK_S = 1.0  # calls wait until Serve has found a gateway that ended, and has started its successor


def apply(
    settings: Settings, *, timeout_s: float = 120.0, wait: bool = True, wait_for: Collection[str] | None = None
) -> UpdatedModels:
    """Make Ray Serve run the series of the active pairs by the present champions, and wait until they answer.

    One caller at a time reads the table of pairs and the champions and sends the configuration, so that no older one
    lands last. `wait_for`: names of the series to wait for, or of a foundation for the series that it serves; by
    default all. A series that a later caller has changed meanwhile is waited for as that one left it. A series that
    the foundation serves is waited for a while, and may lack its forecast afterwards. `wait` False: return when Ray
    Serve has the configuration; /readyz then tells when each series serves its model.

    Raises RegistryError when the registry does not answer, psycopg2.Error when Postgres does not, ServingError when Ray
    Serve refuses, is late, or a replica refuses its new model, or when another deployment does not end in time.
    """
    headers = bearer(settings.ray_token.get_secret_value())
    with httpx.Client(headers=headers, timeout=timeout_s) as ray:  # the first configuration starts Serve itself
        updated = _send(ray, settings, timeout_s)
        if wait:
            names = set(updated.applications) if wait_for is None else set(wait_for)
            by_foundation = [name for name in updated.by_foundation if _is_meant(name, names)]
            _wait_until_serving(ray, settings, names.difference(by_foundation), time.monotonic() + timeout_s)
            # a new pair may have too few candles yet, which must not fail the deployment of the others
            with suppress(ServingError):
                _wait_until_serving(ray, settings, set(by_foundation), time.monotonic() + _NEW_PAIRS_TIMEOUT_S)
    return updated


def _send(ray: httpx.Client, settings: Settings, timeout_s: float) -> UpdatedModels:
    """Send the configuration of this moment to Ray Serve, under the lock of all deployments."""
    late = ServingError(f"another deployment takes longer than {timeout_s:g} s: try again")
    with (
        Database.from_settings(settings) as database,
        advisory_lock(database, "deploy", timeout_s=timeout_s, late=late),
    ):
        pairs = pairs_table.active(database)
        models = models_to_serve(settings, pairs)
        config = desired_config(settings, pairs, models)
        _request(ray, "PUT", settings.ray_url + _APPLICATIONS, time.monotonic() + timeout_s, json=config)
    due = [Series(tracked.pair, interval) for tracked in pairs for interval in settings.intervals]
    return UpdatedModels(
        applications={series.name: model.version for series, model in models.items()},
        by_foundation=tuple(
            each.name for each, model in models.items() if model.name == foundation_name(each.interval)
        ),
        without_champion=tuple(each.name for each in due if each not in models),
    )


def _is_meant(series: str, names: Collection[str]) -> bool:
    """Tell whether a series that the foundation serves is among the names, itself or by its foundation."""
    return series in names or foundation_name(Series.parse(series).interval) in names


def models_to_serve(settings: Settings, pairs: Sequence[TrackedPair]) -> dict[Series, ModelVersion]:
    """Return the champion of each series, or the foundation's while it has none; a series without both is left out.

    The foundation is the version that is adapted to the pair, if there is one. Raises RegistryError.
    """
    models = {}
    with Registry(settings) as registry:
        for interval in settings.intervals:
            foundation = registry.find(foundation_name(interval), CHAMPION)
            for tracked in pairs:
                series = Series(tracked.pair, interval)
                model = registry.find(series.name, CHAMPION)
                if model is None and foundation is not None:
                    model = adapted.find(registry, foundation, series.pair) or foundation
                if model is not None:
                    models[series] = model
    return models


def desired_config(
    settings: Settings, pairs: Sequence[TrackedPair], models: Mapping[Series, ModelVersion]
) -> dict[str, Any]:
    """Return the configuration, as JSON: the gateway at /, an application for each dedicated series, one for the pool.

    A series without a model is not served; the plan of a pair holds for its series of every interval. The model is in
    user_config, so that a replica swaps to a new one in place; any other change restarts the replica.
    """
    address = urlsplit(settings.api_url)
    http_options = {
        "host": "127.0.0.1" if address.hostname in _LOOPBACK else "0.0.0.0",
        "port": address.port or 8000,
        "request_timeout_s": REQUEST_TIMEOUT_S,
    }
    tracked_pairs = {tracked.pair: tracked for tracked in pairs}
    cpus = settings.replica_cpus
    # The gateway writes its own log line for every request.
    logging = {"encoding": "JSON", "enable_access_log": False}
    # Serve makes a record of each call, written or not, unless the level forbids it.
    quiet = logging | {"log_level": "WARNING"}
    gateway = _application(
        GATEWAY,
        "/",
        cpus,
        logging_config=quiet,
        health_check_period_s=_GATEWAY_CHECK_S,
        **_replicas(settings, *least_and_most(settings.gateway_replicas)),
    )
    applications = [gateway]
    pooled = {}
    for series, model in sorted(models.items()):
        name, tracked = series.name, tracked_pairs[series.pair]
        if tracked.plan == "pooled":
            pooled[name] = _wanted_model(model)
        elif tracked.plan == "dedicated":
            deployment = {
                "user_config": _wanted_model(model),
                **_replicas(settings, tracked.min_replicas, tracked.max_replicas),
            }
            applications.append(_application(FORECASTER, None, cpus, name=name, args={"series": name}, **deployment))
    if pooled:
        applications.append(_application(POOL, None, cpus, num_replicas=1, user_config=pooled))
    return {"http_options": http_options, "logging_config": logging, "applications": applications}


def _wanted_model(model: ModelVersion) -> dict[str, str | int]:
    return {"name": model.name, "version": model.version, "run_id": model.run_id}


# A gateway reports waiting calls to Ray every ten seconds by default; the first call of a stopped pair waits as long.
_QUICK_TO_WAKE = {"metrics_interval_s": 0.5, "look_back_period_s": 1.0}


def _replicas(settings: Settings, least: int, most: int) -> dict[str, Any]:
    """Return the autoscaling: up at once, down after a while; what may stop is started once, to check its model."""
    if least == most:
        return {"num_replicas": least}
    autoscaling = {
        "min_replicas": least,
        "max_replicas": most,
        "target_ongoing_requests": settings.ongoing_calls_a_replica,
        "upscale_delay_s": 0,
        "downscale_delay_s": settings.idle_replica_s,
    }
    if least == 0:
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


def _wait_until_serving(ray: httpx.Client, settings: Settings, names: Collection[str], deadline: float) -> None:
    """Wait until these series serve what Ray Serve was told last; a series that it no longer has is left out.

    Polls with growing pauses, because an answer about hundreds of pairs is work for the gateway.
    """
    poll_s = _FIRST_POLL_S
    with Client(settings.api_url, token="") as api:
        while problem := _what_is_missing(ray, api, settings, names, deadline):
            if time.monotonic() > deadline:
                message = f"Ray Serve is late: {problem}. Its logs are in the Ray dashboard, {settings.ray_url}"
                raise ServingError(message)
            time.sleep(poll_s)
            poll_s = min(1.5 * poll_s, _LONGEST_POLL_S)


def _what_is_missing(
    ray: httpx.Client, api: Client, settings: Settings, names: Collection[str], deadline: float
) -> str:
    """Return which application or series is not ready yet, and why; empty when all are.

    Raises ServingError when a deployment failed, or a replica refuses its model.
    """
    answer = _request(ray, "GET", settings.ray_url + _APPLICATIONS, deadline)
    running = read_json(answer, lambda body: dict(body["applications"]), ServingError)
    if not running.get(GATEWAY, {}).get("deployed_app_config"):
        return f"{GATEWAY} is NOT_STARTED"
    told = read_json(answer, _configured_models, ServingError)
    wanted = {name: told[name] for name in names if name in told}
    for name in [GATEWAY, *dict.fromkeys(each if each in running else POOL for each in wanted)]:
        status, message = running[name]["status"], running[name]["message"]
        if status == "DEPLOY_FAILED":
            raise ServingError(f"Ray Serve could not deploy {name}: {message}")
        if status != "RUNNING":
            return f"{name} is {status} {message}".strip()
    return _not_serving(api, wanted)


def _configured_models(body: Any) -> dict[str, NamedVersion]:
    """Read from Ray Serve's answer by which model each series shall be served, by the newest configuration."""
    models: dict[str, Any] = {}
    for name, application in body["applications"].items():
        config = application["deployed_app_config"]
        if config and name != GATEWAY:
            (deployment,) = config["deployments"]
            models |= deployment["user_config"] if name == POOL else {name: deployment["user_config"]}
    return {name: NamedVersion(name=model["name"], version=model["version"]) for name, model in models.items()}


def _not_serving(api: Client, wanted: Mapping[str, NamedVersion]) -> str:
    try:
        return not_serving(api.readiness().pairs, wanted)
    except ServiceUnavailable as error:
        return str(error)
    except ServiceRefused as error:
        raise ServingError(str(error)) from None


def _request(ray: httpx.Client, method: str, url: str, deadline: float, **rest: Any) -> httpx.Response:
    """Send a request, again while Ray answers 5xx: on a busy node its dashboard restarts the part that runs Serve.

    A repeated request changes nothing more, because it states all that shall be served.
    """
    while True:
        try:
            answer = ray.request(method, url, **rest)
        except httpx.HTTPError as error:
            raise ServingError(f"Ray at {url} cannot be reached ({error!r}): is it running?") from error
        if not answer.is_server_error or time.monotonic() + _RETRY_AFTER_S > deadline:
            break
        time.sleep(_RETRY_AFTER_S)
    if answer.is_error:
        raise ServingError(f"Ray answered {answer.status_code} to {method} {url}: {answer.text[:500]}")
    return answer
