"""What a start of the stack does: it runs the program of each component, and the setup tasks between them.

Components and setup tasks depend on each other by name.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import httpx
import psutil
from psycopg2 import sql

from make_us_rich.accounts import Accounts
from make_us_rich.core.errors import StackError
from make_us_rich.core.settings import get_settings
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database, connect
from make_us_rich.embedded import stores
from make_us_rich.embedded.environment import ADMIN, DATABASES, DEMO_USER, StackSecrets, database_url
from make_us_rich.embedded.stack_config import StackConfig
from make_us_rich.embedded.supervisor import Program, wait_until
from make_us_rich.operations.prepare import prepare_accounts, prepare_buckets

Service = Literal["serving", "training", "interface", "stores"]
"""What `mkrich run` starts by itself: the HTTP API, Airflow with its jobs, or the dashboard.

`mkrich up --stores` starts the stores, which are empty in a new stack, for a backup or its restoration.
"""

_AIRFLOW_UPTIME_S = 10  # without Postgres each part of Airflow ends within it, after seconds of work
AIRFLOW = ("airflow-api-server", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer")

PROGRAMS_OF_SERVICE: Mapping[Service, Sequence[str]] = {
    "serving": ("serve",),
    "training": AIRFLOW,
    "interface": ("dash",),
}
"""The programs that no other service uses. Serving itself is an application on Ray, which training uses too."""

_REQUIRED_BY_SERVICE: Mapping[Service, Sequence[str]] = {
    "serving": ("serve", "discord"),
    "training": AIRFLOW,
    "interface": ("dash",),
    "stores": ("databases", "buckets"),
}
_BIN = Path(sys.executable).parent
_OBJECT_STORE_BYTES = 256 * 1024 * 1024
_RAY_RESTART_S = 90.0


@dataclass(frozen=True)
class Component:
    """A program, the components and setup tasks that it depends on, and its readiness check."""

    program: Program
    depends_on: Sequence[str]
    is_ready: Callable[[], bool]

    @property
    def name(self) -> str:
        return self.program.name


@dataclass(frozen=True)
class SetupTask:
    """Work to be done once its dependencies are ready. It is harmless to repeat at the next start."""

    name: str
    depends_on: Sequence[str]
    run: Callable[[], None]


def components(config: StackConfig, secrets: StackSecrets) -> list[Component]:
    """Return every component of the stack, with its folders and configuration files made."""
    return [
        _postgres(config, secrets),
        _s3(config, secrets),
        _ray(config),
        _serve(config),
        _python_server(config, "discord", "/healthz"),
        _mlflow(config),
        *_airflow(config),
        _dash(config),
        _watchdog(),
        *(_exchange(config) for _ in _market(config)),
    ]


def required_by(service: Service, depends_on: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the components and setup tasks of a service, dependencies of dependencies included.

    `depends_on` has the direct dependencies of each component and setup task of the stack.
    """
    required: set[str] = set()
    remaining = list(_REQUIRED_BY_SERVICE[service])
    while remaining:
        name = remaining.pop()
        if name not in required:
            required.add(name)
            remaining += depends_on[name]
    return required


def _postgres(config: StackConfig, secrets: StackSecrets) -> Component:
    server = stores.prepare_postgres(
        config.state / "postgres", port=config.port("postgres"), password=secrets.postgres_password
    )
    program = Program("postgres", server.command, user=server.user, stop_signal="INT", stops_last=True)
    return Component(program, (), server.is_ready)


def _s3(config: StackConfig, secrets: StackSecrets) -> Component:
    data, sockets = config.state / "s3", config.runtime / "s3"
    data.mkdir(parents=True, exist_ok=True)
    sockets.mkdir(exist_ok=True)
    identities = config.state / "s3-identities.json"
    stores.write_s3_identity(identities, secrets.s3_access_key, secrets.s3_secret_key)
    ports = {name: config.port(name) for name in stores.S3_PORTS}
    command = stores.s3_command(config.plain_path(data), sockets, identities, ports)
    return Component(Program("s3", command, stops_last=True), (), partial(responds, f"{config.url('s3')}/healthz"))


def _ray(config: StackConfig) -> Component:
    command = [
        sys.executable,
        "-m",
        "make_us_rich.embedded.ray_head",
        str(config.haproxy),
        str(config.runtime / "ray"),
        str(_BIN / "ray"),
        "start",
        "--head",
        "--block",
        "--disable-usage-stats",
        "--node-ip-address=127.0.0.1",
        f"--port={config.port('ray')}",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={config.port('ray_dashboard')}",
        f"--ray-client-server-port={config.port('ray_client')}",
        f"--dashboard-agent-listen-port={config.port('ray_agent')}",
        f"--metrics-export-port={config.port('ray_metrics')}",
        "--min-worker-port=0",
        "--max-worker-port=0",
        f"--num-cpus={max(2, os.cpu_count() or 2)}",
        f"--object-store-memory={_OBJECT_STORE_BYTES}",
        f"--temp-dir={config.runtime / 'ray'}",
    ]
    return Component(Program("ray", command), (), partial(_ray_responds, config))


def _ray_responds(config: StackConfig) -> bool:
    return responds(f"{config.url('ray_dashboard')}/api/gcs_healthz")


def _serve(config: StackConfig) -> Component:
    """Deploy again when Ray has a new head; the task `serving` has deployed for the first time."""
    program = Program("serve", [sys.executable, "-m", "serve_app.keep"])
    return Component(program, ("serving",), partial(responds, f"{config.url('api')}/healthz"))


def _market(config: StackConfig) -> Sequence[str]:
    """Return the name of the component that plays the exchange; the live market has none."""
    return () if config.market == "binance" else ("exchange",)


def _exchange(config: StackConfig) -> Component:
    data = ["--data", str(config.data)] if config.data else []
    return _python_server(config, "exchange", "/api/v3/ping", *data, "--state", str(config.state / "exchange.json"))


def _python_server(config: StackConfig, name: str, health_path: str, *options: str) -> Component:
    command = [sys.executable, "-m", f"infra.{name}", "--port", str(config.port(name)), *options]
    return Component(Program(name, command), (), partial(responds, config.url(name) + health_path))


def _mlflow(config: StackConfig) -> Component:
    command = [
        sys.executable,
        "-m",
        "infra.mlflow_server",
        f"--port={config.port('mlflow')}",
        f"--artifacts-destination=s3://{get_settings().mlflow_bucket}",
    ]
    ready = partial(responds, f"{config.url('mlflow')}/health")
    return Component(Program("mlflow", without_root(command)), ("databases", "buckets"), ready)


def _airflow(config: StackConfig) -> list[Component]:
    health_url = f"{config.url('airflow')}/api/v2/monitor/health"
    # Log servers of their own would listen on all interfaces; the API server reads the same folder.
    airflow = str(_BIN / "airflow")
    options = {"airflow-scheduler": ["--skip-serve-logs"], "airflow-triggerer": ["--skip-serve-logs"]}
    # The scheduler begins runs at once, of the newest interval of each DAG. One that failed because the stack is still
    # starting would be posted.
    used_by_runs = ("ray", "mlflow", "buckets", "accounts", "discord", *_market(config))
    return [
        Component(
            Program(
                name, [airflow, name.removeprefix("airflow-"), *options.get(name, [])], min_uptime_s=_AIRFLOW_UPTIME_S
            ),
            ("airflow database", *(used_by_runs if name == "airflow-scheduler" else ())),
            partial(responds, health_url)
            if name == "airflow-api-server"
            else partial(_airflow_reports, health_url, name),
        )
        for name in AIRFLOW
    ]


def _dash(config: StackConfig) -> Component:
    command = [sys.executable, "-m", "dash_app", "--host=127.0.0.1", f"--port={config.port('dash')}"]
    program = Program("dash", command, withheld=("MUR_SERVICE_TOKEN",))
    return Component(program, ("accounts",), partial(responds, f"{config.url('dash')}/login"))


def _watchdog() -> Component:
    """Return the watch from outside of Airflow, which gives what it watches ten minutes to start."""
    command = [sys.executable, "-m", "make_us_rich.operations.watchdog"]
    return Component(Program("watchdog", command, withheld=("MUR_SERVICE_TOKEN",)), ("accounts",), lambda: True)


def responds(url: str) -> bool:
    """True when a GET of the URL is answered with success within two seconds."""
    try:
        # The URLs are plain HTTP on loopback. With `verify`, each poll would load all CA certificates: 20 ms of CPU.
        return httpx.get(url, timeout=2, verify=False).is_success
    except httpx.HTTPError:
        return False


def _airflow_reports(health_url: str, program: str) -> bool:
    """Return whether a program of Airflow is healthy by the health page of its API server."""
    service = program.removeprefix("airflow-").replace("-", "_")
    try:
        health: Mapping[str, Mapping[str, str]] = httpx.get(health_url, timeout=2, verify=False).json()
    except (httpx.HTTPError, ValueError):
        return False
    return health.get(service, {}).get("status") == "healthy"


def without_root(command: Sequence[str]) -> list[str]:
    """Return the command that runs `command` as `nobody` if this process runs as root, else `command` itself.

    The Python of pyenv or uv may lie in root's private folder. Then the program keeps the capability to read every
    file, and still cannot write them. Raises StackError when neither way works.
    """
    if os.getuid() != 0:
        return list(command)
    user = pwd.getpwnam("nobody")
    setpriv = [shutil.which("setpriv") or "setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}"]
    setpriv += ["--clear-groups", "--no-new-privs"]
    no_capability = [*setpriv, "--inh-caps=-all", "--bounding-set=-all"]
    read_all = "-all,+dac_read_search"
    may_read_all = [*setpriv, f"--inh-caps={read_all}", f"--ambient-caps={read_all}", f"--bounding-set={read_all}"]
    needs = [str(path) for path in (Path(sys.executable).resolve(), os.__file__, psutil.__file__, __file__)]
    for prefix in (no_capability, may_read_all):
        # `head` rather than `test -r`, which asks for the user's rights without the capabilities
        if shutil.which(prefix[0]) and _succeeds([*prefix, "head", "-c1", *needs]):
            return [*prefix, *command]
    raise StackError(
        f"MLflow runs as 'nobody' because you are root, and 'nobody' may not read {', '.join(needs)}: "
        "`chmod o+x` their folders, or run as a normal user"
    )


def _succeeds(command: Sequence[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def setup_tasks(config: StackConfig, secrets: StackSecrets, environment: Mapping[str, str]) -> list[SetupTask]:
    """Return the tasks of one start; components depend on them by name."""
    return [
        SetupTask("databases", ["postgres"], lambda: _create_databases(config, secrets)),
        SetupTask("buckets", ["s3"], lambda: _create_buckets(config, secrets)),
        SetupTask("accounts", ["databases"], lambda: _create_accounts(config, secrets)),
        SetupTask("airflow database", ["databases"], lambda: _migrate_airflow(secrets, environment)),
        SetupTask("serving", ["ray", "accounts", "mlflow", *_market(config)], lambda: _deploy(config, environment)),
    ]


def _deploy(config: StackConfig, environment: Mapping[str, str]) -> None:
    """Deploy the service, once more if Ray's head ended meanwhile.

    On a busy machine one of Ray's own servers gives up after half a minute, and the head ends with it.
    """
    try:
        _run_module("serve_app.deploy", environment)
    except StackError:
        wait_until(partial(_ray_responds, config), _RAY_RESTART_S, "Ray does not respond")
        _run_module("serve_app.deploy", environment)


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
        pairs_table.seed(database, settings.pairs, settings.pooled_pairs)


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
