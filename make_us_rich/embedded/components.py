"""The programs of the stack: how each is started and how it tells that it is ready."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from make_us_rich.core.settings import get_settings
from make_us_rich.embedded import postgres, s3
from make_us_rich.embedded.environment import StackSecrets
from make_us_rich.embedded.stack_config import StackConfig
from make_us_rich.embedded.supervisor import Program
from make_us_rich.embedded.unprivileged import unprivileged

_BIN = Path(sys.executable).parent
_OBJECT_STORE_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Component:
    """A program, the components and steps it waits for, and its readiness: a URL or a check of its own."""

    program: Program
    after: Sequence[str]
    is_ready: Callable[[], bool]

    @property
    def name(self) -> str:
        return self.program.name


def components(config: StackConfig, secrets: StackSecrets) -> list[Component]:
    made = [
        _postgres(config, secrets),
        _s3(config, secrets),
        _ray(config),
        _python_server(config, "discord", "/healthz"),
        _mlflow(config),
        *_airflow(config),
        _dash(config),
    ]
    return made if config.market == "binance" else [*made, _exchange(config)]


def _postgres(config: StackConfig, secrets: StackSecrets) -> Component:
    server = postgres.prepare(
        config.state / "postgres", port=config.port("postgres"), password=secrets.postgres_password
    )
    program = Program("postgres", server.command, user=server.user, stop_signal="INT", stops_last=True)
    return Component(program, (), server.is_ready)


def _s3(config: StackConfig, secrets: StackSecrets) -> Component:
    folder, sockets = config.state / "s3", config.runtime / "s3"
    folder.mkdir(parents=True, exist_ok=True)
    sockets.mkdir(exist_ok=True)
    identities = config.state / "s3-identities.json"
    s3.write_identity(identities, secrets.s3_access_key, secrets.s3_secret_key)
    ports = {name: config.port(name) for name in s3.PORTS}
    command = s3.command(folder, sockets, identities, ports)
    return Component(Program("s3", command, stops_last=True), (), _answers(f"{config.url('s3')}/healthz"))


def _ray(config: StackConfig) -> Component:
    command = [
        sys.executable,
        "-m",
        "make_us_rich.embedded.ray_head",
        str(config.haproxy),
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
    return Component(Program("ray", command), (), _answers(f"{config.url('ray_dashboard')}/api/gcs_healthz"))


def _exchange(config: StackConfig) -> Component:
    source = ["--data", str(config.data)] if config.data else []
    state = ["--state", str(config.state / "exchange.json")]
    return _python_server(config, "exchange", "/api/v3/ping", *source, *state)


def _python_server(config: StackConfig, name: str, ready_path: str, *more: str) -> Component:
    command = [sys.executable, "-m", f"infra.{name}", "--port", str(config.port(name)), *more]
    return Component(Program(name, command), (), _answers(config.url(name) + ready_path))


def _mlflow(config: StackConfig) -> Component:
    command = [
        sys.executable,
        "-m",
        "infra.mlflow_server",
        f"--port={config.port('mlflow')}",
        f"--artifacts-destination=s3://{get_settings().mlflow_bucket}",
    ]
    return Component(
        Program("mlflow", unprivileged(command)), ("databases", "buckets"), _answers(f"{config.url('mlflow')}/health")
    )


def _airflow(config: StackConfig) -> list[Component]:
    url = f"{config.url('airflow')}/api/v2/monitor/health"
    server = Component(
        Program("airflow-api-server", [str(_BIN / "airflow"), "api-server"]), ("airflow database",), _answers(url)
    )
    # Their log servers would listen on all interfaces; the API server reads the same folder.
    services = {"scheduler": ["--skip-serve-logs"], "dag-processor": [], "triggerer": ["--skip-serve-logs"]}
    return [
        server,
        *(
            Component(
                Program(f"airflow-{service}", [str(_BIN / "airflow"), service, *options]),
                ("airflow database",),
                _is_healthy(url, service.replace("-", "_")),
            )
            for service, options in services.items()
        ),
    ]


def _dash(config: StackConfig) -> Component:
    command = [sys.executable, "-m", "dash_app", "--host=127.0.0.1", f"--port={config.port('dash')}"]
    program = Program("dash", command, withheld=("MUR_SERVICE_TOKEN",))
    return Component(program, ("accounts",), _answers(f"{config.url('dash')}/login"))


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.HTTPError:
        return False


def _answers(url: str) -> Callable[[], bool]:
    return lambda: answers(url)


def _is_healthy(url: str, service: str) -> Callable[[], bool]:
    def check() -> bool:
        try:
            health: Mapping[str, Mapping[str, str]] = httpx.get(url, timeout=2).json()
        except (httpx.HTTPError, ValueError):
            return False
        return health.get(service, {}).get("status") == "healthy"

    return check
