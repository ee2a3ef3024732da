"""The work that a start of the stack does between its components: databases, buckets, accounts, deployment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
from psycopg2 import sql

from make_us_rich.accounts import Accounts
from make_us_rich.core.errors import ServingError, StackError
from make_us_rich.core.settings import get_settings
from make_us_rich.database.connection import connect
from make_us_rich.database.pool import Database
from make_us_rich.embedded.environment import ADMIN, DATABASES, DEMO_USER, StackSecrets, database_url
from make_us_rich.embedded.stack_config import StackConfig
from make_us_rich.operations.prepare import prepare_accounts, prepare_buckets, prepare_pairs

_SHUT_DOWN_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class SetupTask:
    """Work to be done once its dependencies are ready. It is harmless to repeat at the next start."""

    name: str
    depends_on: Sequence[str]
    run: Callable[[], None]


def setup_tasks(config: StackConfig, secrets: StackSecrets, environment: Mapping[str, str]) -> list[SetupTask]:
    """Return the tasks of one start; components depend on them by name."""
    serving_needs = ["ray", "accounts", "mlflow"] + ([] if config.market == "binance" else ["exchange"])
    return [
        SetupTask("databases", ["postgres"], lambda: _create_databases(config, secrets)),
        SetupTask("buckets", ["s3"], lambda: _create_buckets(config, secrets)),
        SetupTask("accounts", ["databases"], lambda: _create_accounts(config, secrets)),
        SetupTask("airflow database", ["databases"], lambda: _migrate_airflow(secrets, environment)),
        SetupTask("serving", serving_needs, lambda: _run_module("serve_app.deploy", environment)),
    ]


def _create_databases(config: StackConfig, secrets: StackSecrets) -> None:
    # without a transaction, which CREATE DATABASE refuses
    with closing(connect(database_url(config, secrets, "postgres"))) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database")
        present = {row[0] for row in cursor.fetchall()}
        for name in DATABASES:
            if name not in present:
                cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def _create_buckets(config: StackConfig, secrets: StackSecrets) -> None:
    settings = get_settings()
    buckets = (settings.candles_bucket, settings.mlflow_bucket)
    prepare_buckets(config.url("s3"), secrets.s3_access_key, secrets.s3_secret_key, buckets)


def _create_accounts(config: StackConfig, secrets: StackSecrets) -> None:
    url = database_url(config, secrets, "make_us_rich")
    prepare_accounts(url, secrets.admin_password, secrets.service_token, secrets.dashboard_token)
    settings = get_settings()
    with Database(url) as database:
        Accounts(database).users.ensure(DEMO_USER, secrets.demo_password)
        prepare_pairs(database, settings.pairs, settings.pooled_pairs)


def _migrate_airflow(secrets: StackSecrets, environment: Mapping[str, str]) -> None:
    Path(environment["AIRFLOW_HOME"]).mkdir(parents=True, exist_ok=True)
    passwords = Path(environment["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
    passwords.touch(mode=0o600)
    passwords.write_text(json.dumps({ADMIN: secrets.admin_password}))
    _run_module("airflow", environment, "db", "migrate")


def _run_module(module: str, environment: Mapping[str, str], *arguments: str) -> None:
    """Run `python -m module` in a process of its own, because it reads its settings from the environment."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise StackError(f"{' '.join([module, *arguments])} failed:{os.linesep}{tail}")


def shut_down_serving(ray_url: str, token: str) -> None:
    """Stop every Serve application and the HTTP proxy. Raises ServingError when Ray does not answer."""
    headers = {"Authorization": f"Bearer {token}"}
    try:
        url = f"{ray_url}/api/serve/applications/"
        httpx.delete(url, headers=headers, timeout=_SHUT_DOWN_TIMEOUT_S).raise_for_status()
    except httpx.HTTPError as error:
        raise ServingError(f"Ray at {ray_url} did not stop serving: {error}") from None
