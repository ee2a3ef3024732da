"""Lets Ray Serve run the models of this moment; no import of Ray, so that Airflow can call it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from make_us_rich.core.errors import ServingError
from make_us_rich.core.pair import Pair
from make_us_rich.core.responses import read_json
from make_us_rich.core.settings import Settings
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pairs import TrackedPair
from make_us_rich.operations.serve_config import REQUEST_TIMEOUT_S, desired_config
from make_us_rich.registry.client import CHAMPION, ModelVersion, Registry, foundation_name, model_name

_APPLICATIONS = "/api/serve/applications/"
_FIRST_POLL_S, _LONGEST_POLL_S = 0.1, 2.0


@dataclass(frozen=True)
class AppliedServing:
    """Versions by name of pair and interval; pairs that the model of all pairs serves, and that nothing does yet."""

    applications: Mapping[str, int]
    by_foundation: tuple[str, ...]
    without_champion: tuple[str, ...]
    models: Mapping[str, ModelVersion] = field(repr=False)


def apply(settings: Settings, *, timeout_s: float = 120.0) -> AppliedServing:
    """Let Ray Serve run the listed pairs by the champions of this moment, and wait until they answer.

    Raises RegistryError when the registry does not answer, psycopg2.Error when Postgres does not (nothing is changed
    then), ServingError when Ray Serve refuses, is late, or a replica refuses its new version.
    """
    with _ray(settings, timeout_s) as ray:  # the first order starts Serve itself
        applied, applications = _submit(ray, settings)
        _wait_until_serving(ray, settings, applications, applied.models, time.monotonic() + timeout_s)
    return applied


def submit(settings: Settings) -> AppliedServing:
    """As apply(), without waiting: /readyz tells when each pair serves its model, or why not."""
    with _ray(settings, REQUEST_TIMEOUT_S) as ray:
        return _submit(ray, settings)[0]


def _ray(settings: Settings, timeout_s: float) -> httpx.Client:
    token = settings.ray_token.get_secret_value()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(headers=headers, timeout=timeout_s)


def _submit(ray: httpx.Client, settings: Settings) -> tuple[AppliedServing, list[str]]:
    pairs = pairs_table.active(settings.database_url.get_secret_value())
    models = models_to_serve(settings, pairs)
    config = desired_config(settings, pairs, models)
    _checked(ray, "PUT", settings.ray_url + _APPLICATIONS, json=config)
    foundation = foundation_name(settings.interval)
    wanted = {model_name(Pair.parse(pair), settings.interval): model for pair, model in models.items()}
    applied = AppliedServing(
        applications={name: model.version for name, model in wanted.items()},
        by_foundation=tuple(pair for pair, model in models.items() if model.name == foundation),
        without_champion=tuple(listed.pair for listed in pairs if listed.pair not in models),
        models=wanted,
    )
    return applied, [application["name"] for application in config["applications"]]


def models_to_serve(settings: Settings, pairs: Sequence[TrackedPair]) -> dict[str, ModelVersion]:
    """Each pair's champion, or that of all pairs while it has none of its own. Raises RegistryError."""
    with Registry(settings) as registry:
        foundation = registry.find(foundation_name(settings.interval), CHAMPION)
        found = {
            listed.pair: registry.find(model_name(listed.pair, settings.interval), CHAMPION) or foundation
            for listed in pairs
        }
    return {pair: model for pair, model in found.items() if model is not None}


def _wait_until_serving(
    ray: httpx.Client,
    settings: Settings,
    applications: Sequence[str],
    wanted: Mapping[str, ModelVersion],
    deadline: float,
) -> None:
    """Asks less and less often, because an answer about hundreds of pairs is work for those who serve them."""
    poll_s = _FIRST_POLL_S
    while True:
        waiting = _not_running(ray, settings, applications) or _not_answering(settings, wanted)
        if not waiting:
            return
        if time.monotonic() > deadline:
            raise ServingError(f"Ray Serve is late: {waiting}. Its logs are in the Ray dashboard, {settings.ray_url}")
        time.sleep(poll_s)
        poll_s = min(1.5 * poll_s, _LONGEST_POLL_S)


def _not_running(ray: httpx.Client, settings: Settings, applications: Sequence[str]) -> str:
    answer = _checked(ray, "GET", settings.ray_url + _APPLICATIONS)
    running = read_json(answer, lambda body: dict(body["applications"]), ServingError)
    for name in applications:
        state = running.get(name, {"status": "NOT_STARTED", "message": ""})
        if state["status"] == "DEPLOY_FAILED":
            raise ServingError(f"Ray Serve could not deploy {name}: {state['message']}")
        if state["status"] != "RUNNING":
            return f"{name} is {state['status']} {state['message']}".strip()
    return ""


def _not_answering(settings: Settings, wanted: Mapping[str, ModelVersion]) -> str:
    try:
        states = httpx.get(f"{settings.api_url}/readyz", timeout=REQUEST_TIMEOUT_S).json()["pairs"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        return f"{settings.api_url}/readyz does not answer ({error!r})"
    for name, model in wanted.items():
        if name not in states:
            return f"{name} is unknown to the gateway"
        state = states[name]
        if state["asleep"]:
            continue
        due = {"name": model.name, "version": model.version}
        if state["wanted"] == due and state["refused"]:
            raise ServingError(f"{name} refuses {_said(due)} and serves {_said(state['serves'])}: {state['refused']}")
        if state["serves"] != due:
            return f"{name} serves {_said(state['serves'])} instead of {_said(due)}: {state['reason']}"
    return ""


def _said(model: Mapping[str, Any] | None) -> str:
    return f"version {model['version']} of {model['name']}" if model else "nothing"


def _checked(ray: httpx.Client, method: str, url: str, **rest: Any) -> httpx.Response:
    try:
        answer = ray.request(method, url, **rest)
    except httpx.HTTPError as error:
        raise ServingError(f"Ray at {url} cannot be reached ({error!r}): is it running?") from error
    if answer.is_error:
        raise ServingError(f"Ray answered {answer.status_code} to {method} {url}: {answer.text[:500]}")
    return answer
