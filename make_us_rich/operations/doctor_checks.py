"""What `mkrich doctor` asks each dependency. A check returns what it found, or raises."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import Any

import httpx

from make_us_rich.core.errors import MakeUsRichError
from make_us_rich.core.settings import BINANCE_DATA_URL, Settings
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.connection import transaction
from make_us_rich.database.migrations import SQL_FOLDER
from make_us_rich.registry.client import CHAMPION, Registry, model_name

_TIMEOUT_S = 10.0
_MOST_SKEW_S = 5.0
_LEAST_FREE_BYTES = 2 * 2**30


class HealthProblem(MakeUsRichError):
    """What is wrong, with its own way out; a warning when the rest can work on."""

    def __init__(self, detail: str, way_out: str, *, warning: bool = False) -> None:
        super().__init__(detail)
        self.way_out = way_out
        self.warning = warning


def _postgres(settings: Settings) -> str:
    url = settings.database_url.get_secret_value()
    with transaction(url, answer_within_s=_TIMEOUT_S) as cursor:
        cursor.execute("SELECT to_regclass('schema_migrations') IS NOT NULL")
        applied = set()
        if cursor.fetchone()[0]:
            cursor.execute("SELECT version FROM schema_migrations")
            applied = {row[0] for row in cursor.fetchall()}
    missing = sorted({file.name.partition("_")[0] for file in SQL_FOLDER.glob("*.sql")} - applied)
    if missing:
        raise HealthProblem(f"migrations {', '.join(missing)} are not applied", "run `mkrich migrate`")
    return f"{len(applied)} migrations applied, none missing"


def _s3(settings: Settings) -> str:
    from make_us_rich.market.object_store import ObjectStore

    ObjectStore.from_settings(settings).get("asked-by-the-doctor")
    return f"bucket {settings.candles_bucket} answers"


def _mlflow(settings: Settings) -> str:
    with Registry(settings) as registry:
        unserved = []
        pairs = pairs_table.active(settings.database_url.get_secret_value())
        for item in pairs:
            if registry.find(model_name(item.pair, settings.interval), CHAMPION) is None:
                unserved.append(item.pair)
    if unserved:
        names = " ".join(unserved)
        raise HealthProblem(f"no champion yet: {names}", f"run `mkrich train {names}`", warning=True)
    return f"a champion for each of {len(pairs)} pairs"


def _ray(settings: Settings) -> str:
    token = settings.ray_token.get_secret_value()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = httpx.get(f"{settings.ray_url}/api/serve/applications/", headers=headers, timeout=_TIMEOUT_S)
    if answer.status_code in (401, 403) and not token:
        raise HealthProblem(
            "Ray wants a token, which this component was not given", "ask where MUR_RAY_TOKEN is set", warning=True
        )
    if answer.status_code in (401, 403):
        raise HealthProblem("Ray refuses the token", "give MUR_RAY_TOKEN the value that Ray was started with")
    states = {name: app["status"] for name, app in answer.raise_for_status().json()["applications"].items()}
    ill = [f"{name} is {state}" for name, state in states.items() if state != "RUNNING"]
    if ill or not states:
        raise HealthProblem(
            "; ".join(ill) or "no Serve application is deployed",
            f"run `python -m serve_app.deploy`; logs: {settings.ray_url}",
        )
    return f"{len(states)} Serve applications run"


def _airflow(settings: Settings) -> str:
    from make_us_rich.operations.airflow import Airflow, AirflowError

    answer = httpx.get(f"{settings.airflow_url}/api/v2/monitor/health", timeout=_TIMEOUT_S)
    parts: dict[str, Any] = answer.raise_for_status().json()
    ill = [name for name, part in parts.items() if part and part["status"] not in ("healthy", None)]
    if ill:
        raise HealthProblem(f"not healthy: {', '.join(ill)}", "see the logs of these parts of Airflow")
    try:
        with Airflow.from_settings(settings) as airflow:
            if not airflow.has_dag("train_pairs"):
                raise HealthProblem("the DAG train_pairs is not there", "look for import errors in Airflow")
    except AirflowError as error:
        raise HealthProblem(
            str(error), "set MUR_AIRFLOW_USER and MUR_AIRFLOW_PASSWORD to start runs from here", warning=True
        ) from None
    return "healthy, and the DAG train_pairs is there"


def _api(settings: Settings) -> str:
    from make_us_rich.client import Client, ServiceRefused

    answer = httpx.get(f"{settings.api_url}/readyz", timeout=_TIMEOUT_S)
    if answer.status_code not in (200, 503):
        answer.raise_for_status()
    ill = [f"{name}: {state['reason']}" for name, state in answer.json()["pairs"].items() if not state["ready"]]
    if ill:
        raise HealthProblem("; ".join(ill), "`mkrich models` says what should be served; `mkrich logs ray` why not")
    held = {"MUR_SERVICE_TOKEN": settings.service_token, "MUR_DASHBOARD_TOKEN": settings.dashboard_token}
    tokens = [(name, value) for name, secret in held.items() if (value := secret.get_secret_value())]
    variable, token = tokens[0] if tokens else ("MUR_SERVICE_TOKEN", "")
    try:
        with Client(settings.api_url, token) as client:
            client.usage()
    except ServiceRefused as error:
        raise HealthProblem(str(error), f"run `mkrich prepare` with the {variable} of the settings") from None
    return f"{len(answer.json()['pairs'])} pairs are ready, {variable} is known"


def _exchange(settings: Settings) -> str:
    answer = httpx.get(f"{settings.exchange_url}/api/v3/time", timeout=_TIMEOUT_S)
    if answer.status_code == 451:
        refusal = "Binance refuses requests from this country or cloud (HTTP 451)"
        raise HealthProblem(refusal, f"set MUR_EXCHANGE_URL={BINANCE_DATA_URL}")
    skew_s = answer.raise_for_status().json()["serverTime"] / 1000 - time.time()
    if abs(skew_s) > _MOST_SKEW_S and settings.market == "binance":
        raise HealthProblem(f"this clock is {skew_s:+.0f} s off the exchange's", "let NTP set this machine's clock")
    return f"{settings.market} market answers"


def _discord(settings: Settings) -> str:
    url = settings.discord_webhook_url.get_secret_value()
    if not url:
        raise HealthProblem("failures are posted nowhere", "set MUR_DISCORD_WEBHOOK_URL", warning=True)
    if httpx.get(url, timeout=_TIMEOUT_S).status_code in (401, 404):
        raise HealthProblem("the webhook is gone", "make a new one in Discord and set MUR_DISCORD_WEBHOOK_URL")
    return "the webhook is there"


def _disk(settings: Settings) -> str:
    free = shutil.disk_usage(".").free
    if free < _LEAST_FREE_BYTES:
        raise HealthProblem(f"{free / 2**30:.1f} GiB are free here", "free some: 2 GiB is little", warning=True)
    return f"{free / 2**30:.0f} GiB are free here"


CHECKS: dict[str, tuple[Callable[[Settings], str], str]] = {
    "postgres": (_postgres, "MUR_DATABASE_URL"),
    "s3": (_s3, "MUR_S3_ENDPOINT_URL"),
    "mlflow": (_mlflow, "MUR_MLFLOW_URL"),
    "ray": (_ray, "MUR_RAY_URL"),
    "airflow": (_airflow, "MUR_AIRFLOW_URL"),
    "api": (_api, "MUR_API_URL"),
    "exchange": (_exchange, "MUR_EXCHANGE_URL"),
    "discord": (_discord, "MUR_DISCORD_WEBHOOK_URL"),
    "disk": (_disk, ""),
}
