"""Creates what a new installation needs: tables, accounts and buckets, and the .env of docker compose."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path

from make_us_rich.accounts import ADMIN, TOKEN_PREFIX, Accounts
from make_us_rich.core.errors import SettingsError
from make_us_rich.database.migrations import migrate
from make_us_rich.database.pool import Database

ADMIN_NAME = "admin"


def prepare_buckets(
    endpoint_url: str, access_key: str, secret_key: str, names: Iterable[str], region: str = "us-east-1"
) -> None:
    from make_us_rich.market.object_store import ObjectStore  # `mkrich init-env` runs where minio is not installed

    for name in names:
        ObjectStore(endpoint_url, access_key, secret_key, name, region).ensure_bucket()


def prepare_accounts(database_url: str, admin_password: str, service_token: str, dashboard_token: str) -> None:
    """Create the tables, the first admin and the two tokens. Safe to repeat.

    `dashboard_token` is empty where no dashboard runs.
    """
    migrate(database_url)
    with Accounts(Database(database_url)) as accounts:
        accounts.users.ensure(ADMIN_NAME, admin_password, role=ADMIN)
        accounts.ensure_service_token(service_token)
        if dashboard_token:
            accounts.ensure_dashboard_token(dashboard_token)


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
