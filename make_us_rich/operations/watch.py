"""What is wrong with the running service, as its callers meet it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import httpx

from make_us_rich.core.errors import ServingError
from make_us_rich.core.interval import Interval
from make_us_rich.core.settings import Settings
from make_us_rich.database import pairs as pairs_table
from make_us_rich.registry.client import CHAMPION, ModelVersion, Registry, model_name

_TIMEOUT_S = 30.0
_LATE_MS = 15 * 60_000
"""What the exchange, the pipeline and a swap may take."""


def check_alive(settings: Settings) -> None:
    """Raises ServingError when the HTTP API does not answer as it should."""
    _get(settings, "/healthz", ok=(200,))


def check_pairs(settings: Settings, *, now_ms: int | None = None) -> dict[str, str]:
    """What is wrong with each active pair, nothing being empty: not loaded, not its champion, or an old forecast.

    A pair that no model serves yet is not expected. Raises ServingError or RegistryError when nobody can say.
    """
    answer = _get(settings, "/readyz", ok=(200, 503))
    if "pairs" not in answer:
        raise ServingError(f"{settings.api_url}/readyz names no pairs: {answer}"[:300])
    states = answer["pairs"]
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    found: dict[str, str] = {}
    with Registry(settings) as registry:
        for item in pairs_table.active(settings.database_url.get_secret_value()):
            name = model_name(item.pair, settings.interval)
            champion = registry.find(name, CHAMPION)
            if champion or name in states:
                found[item.pair] = _complaint(states.get(name), champion, settings.interval, now_ms)
    return found


def _complaint(state: Mapping[str, Any] | None, champion: ModelVersion | None, interval: Interval, now_ms: int) -> str:
    """`state`: what /readyz says. `champion` None: the model of all pairs serves it."""
    if state is None:
        return "it has a champion and is not loaded"
    if state["asleep"]:
        return ""
    if not state["ready"]:
        return f"it cannot be answered: {state['reason']}"
    if state["refused"]:
        return f"it refuses version {state['wanted']['version']} of {state['wanted']['name']}: {state['refused']}"
    due = champion and {"name": champion.name, "version": champion.version}
    if champion and state["serves"] != due and now_ms - champion.created_ms > _LATE_MS:
        serves = f"version {state['serves']['version']} of {state['serves']['name']}"
        return f"it serves {serves} instead of its champion, version {champion.version}"
    age_ms = now_ms - state["as_of_ms"]
    if age_ms > interval.ms + _LATE_MS:
        return f"its newest forecast is {age_ms / 3_600_000:.1f} hours old"
    return ""


def _get(settings: Settings, path: str, ok: tuple[int, ...]) -> Any:
    url = f"{settings.api_url}{path}"
    try:
        answer = httpx.get(url, timeout=_TIMEOUT_S)
        if answer.status_code not in ok:
            raise ServingError(f"{url} answered {answer.status_code}: {answer.text[:200]}")
        return answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise ServingError(f"{url} does not answer: {error!r}") from error
