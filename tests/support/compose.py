"""Reads docker-compose.yml as Compose does, with the variables of a given .env."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from make_us_rich.core.settings import Settings
from tests.support.processes import PROJECT_ROOT

COMPOSE = PROJECT_ROOT / "docker-compose.yml"
_INNERMOST = re.compile(r"\$\{(?P<name>\w+)(?::-(?P<default>[^${}]*)|:\?[^}]*)?\}")


def all_compose_variables() -> dict[str, str]:
    """Return a distinct value for every variable that the file or the settings name."""
    names = set(re.findall(r"\$\{(\w+)", COMPOSE.read_text()))
    names |= {f"MUR_{name.upper()}" for name in Settings.model_fields}
    return {name: f"the-{name}-of-env" for name in names}


def compose_services(env: Mapping[str, str], *overrides: Path) -> dict[str, dict[str, Any]]:
    """Return each service of the file, merged with `overrides`.

    A variable without a value gets that of `env`, or is left out.
    """

    def filled(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        if name not in env and default is None:
            raise AssertionError(f"{name} is required, and .env.example does not have it")
        return env.get(name) or default or ""

    merged: dict[str, Any] = {}
    for path in (COMPOSE, *overrides):
        text = path.read_text()
        while _INNERMOST.search(text):
            text = _INNERMOST.sub(filled, text)
        merged = _merge(merged, yaml.safe_load(text))
    services: dict[str, dict[str, Any]] = merged["services"]
    for service in services.values():
        given = service.get("environment", {})
        service["environment"] = {
            name: env[name] if value is None else _text(value)
            for name, value in given.items()
            if value is not None or name in env
        }
    return services


def _merge(base: Any, over: Any, key: str = "") -> Any:
    """Merge as Compose does: maps by key, lists one after the other, but commands and tests replaced."""
    if isinstance(base, dict) and isinstance(over, dict):
        return base | {name: _merge(base[name], value, name) if name in base else value for name, value in over.items()}
    if key == "volumes" and isinstance(base, list):  # one for each path in the container
        return list({str(volume).split(":")[1]: volume for volume in [*base, *over]}.values())
    replaces = key in ("command", "entrypoint", "test")
    return base + over if isinstance(base, list) and isinstance(over, list) and not replaces else over


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
