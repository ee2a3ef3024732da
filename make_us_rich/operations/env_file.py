"""Writes the .env of docker compose: .env.example with a new secret for each empty variable."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from make_us_rich.accounts import TOKEN_PREFIX
from make_us_rich.core.errors import SettingsError


def fernet_key() -> str:
    """Return a new key for Airflow's encryption of connections: 32 random bytes in URL-safe base64."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


# Secrets of a special form; every other secret is 192 random bits.
_MAKERS: dict[str, Callable[[], str]] = {
    "AIRFLOW_FERNET_KEY": fernet_key,
    **dict.fromkeys(("MUR_SERVICE_TOKEN", "MUR_DASHBOARD_TOKEN"), lambda: TOKEN_PREFIX + secrets.token_urlsafe(32)),
    **dict.fromkeys(("S3_ACCESS_KEY", "S3_MLFLOW_ACCESS_KEY", "S3_ADMIN_ACCESS_KEY"), lambda: secrets.token_hex(10)),
}


def write_env(example: Path, path: Path) -> None:
    """Write the file, readable by its owner alone. Raises SettingsError when it exists: secrets may be in use."""
    if not example.exists():
        raise SettingsError(f"{example} is not here: run this in a checkout of the repository")
    if path.exists():
        raise SettingsError(f"{path} exists: remove it first if its secrets are not in use")
    lines = [_filled(line) for line in example.read_text().splitlines()]
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write("\n".join(lines) + "\n")


def _filled(line: str) -> str:
    name, equals, value = line.partition("=")
    if not equals or line.startswith("#") or value:
        return line
    return f"{name}={_MAKERS.get(name, lambda: secrets.token_hex(24))()}"
