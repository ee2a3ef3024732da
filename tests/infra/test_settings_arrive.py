"""Every setting reaches every container that runs our code, in Compose and in Kubernetes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from make_us_rich.core.settings import Settings
from tests.support.compose import all_compose_variables, compose_services
from tests.support.processes import PROJECT_ROOT

KUBERNETES = PROJECT_ROOT / "infra" / "kubernetes"
OUR_IMAGES = {
    "airflow",
    "backup",
    "dash",
    "mlflow",
    "ray",
    "serve",
}  # those with make_us_rich installed; the proxy has none
READS_NONE = {"exchange": "the replay exchange has arguments, and no settings"}

# In Compose. Each exception has its reason.
FIXED = {
    "mlflow_url": "a service of this file",
    "ray_url": "a service of this file",
    "api_url": "a service of this file",
    "airflow_url": "a service of this file",
    "trusted_proxies": "the service proxy is the only proxy in front; PROXY_TRUSTED names others",
    "cache_folder": "the image says where its volume is",
}
OTHER_NAMES = {  # MLflow and our S3 store read these names
    "s3_endpoint_url": "S3_ENDPOINT_URL",
    "s3_region": "S3_REGION",
    "candles_bucket": "S3_CANDLES_BUCKET",
    "mlflow_bucket": "S3_MLFLOW_BUCKET",
}
AIRFLOWS = {"airflow-init", "airflow-api-server", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer"}
RAYS = {"ray-head", "ray-worker"}
SECRETS = {  # field: its variable in .env and the services that get it; test_compose.py checks that no other does
    "secret_key": ("MUR_SECRET_KEY", {"dash"}),
    "s3_access_key": ("S3_ACCESS_KEY", AIRFLOWS | RAYS | {"watchdog"}),
    "s3_secret_key": ("S3_SECRET_KEY", AIRFLOWS | RAYS | {"watchdog"}),
    "ray_token": ("RAY_TOKEN", AIRFLOWS | RAYS | {"watchdog", "serve"}),
    "service_token": ("MUR_SERVICE_TOKEN", AIRFLOWS | RAYS | {"serve", "setup", "backup"}),
    "dashboard_token": ("MUR_DASHBOARD_TOKEN", {"setup", "dash"}),
    "database_url": ("APP_DB_PASSWORD", AIRFLOWS | RAYS | {"watchdog", "serve", "setup", "dash", "backup"}),
    "mlflow_password": ("MUR_MLFLOW_PASSWORD", AIRFLOWS | RAYS | {"watchdog", "mlflow", "serve", "dash"}),
    "airflow_password": ("AIRFLOW_ADMIN_PASSWORD", AIRFLOWS | {"watchdog", "dash"}),
    "heartbeat_url": ("MUR_HEARTBEAT_URL", {"watchdog"}),
    "discord_webhook_url": ("MUR_DISCORD_WEBHOOK_URL", AIRFLOWS | RAYS | {"watchdog", "dash"}),
}
IS_SECRET = {name: field.annotation is SecretStr for name, field in Settings.model_fields.items()}


@pytest.fixture(scope="module")
def env() -> dict[str, str]:
    return all_compose_variables()


@pytest.fixture(scope="module")
def ours(env: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Return the services that run our code."""
    services = compose_services(env)
    return {
        name: of["environment"]
        for name, of in services.items()
        if of.get("build", {}).get("target") in OUR_IMAGES and name not in READS_NONE
    }


@pytest.mark.parametrize("field", [name for name, secret in IS_SECRET.items() if not secret])
def test_a_setting_reaches_every_service(field: str, ours: dict[str, dict[str, Any]], env: dict[str, str]) -> None:
    assert len(ours) == len(AIRFLOWS | RAYS) + 6
    variable = f"MUR_{field.upper()}"
    if field in FIXED:
        changed = {name for name, of in ours.items() if of.get(variable) == env[variable]}
        assert not changed, f"{field} is listed as fixed ({FIXED[field]})"
        return
    wanted = env[OTHER_NAMES.get(field, variable)]
    missed = {name for name, of in ours.items() if of.get(variable) != wanted}
    assert not missed, f"{variable} of .env does not reach {sorted(missed)}"


@pytest.mark.parametrize("field", [name for name, secret in IS_SECRET.items() if secret])
def test_a_secret_reaches_those_who_read_it_only(
    field: str, ours: dict[str, dict[str, Any]], env: dict[str, str]
) -> None:
    variable, readers = SECRETS[field]
    having = {name for name, of in ours.items() if env[variable] in str(of.get(f"MUR_{field.upper()}", ""))}
    assert having == readers


def test_no_setting_names_a_service_that_an_s3_store_of_ones_own_replaces(env: dict[str, str]) -> None:
    services = compose_services(env | {"S3_ENDPOINT_URL": "https://s3.example.com", "S3_CONTAINERS": "0"})
    assert int(services.pop("s3")["scale"]) == 0
    for name, of in services.items():
        assert "s3:8333" not in str(of), name
    mlflow = services["mlflow"]
    assert mlflow["environment"]["MLFLOW_S3_ENDPOINT_URL"] == "https://s3.example.com"
    assert mlflow["environment"]["AWS_DEFAULT_REGION"] == env["S3_REGION"]
    assert f"--artifacts-destination=s3://{env['S3_MLFLOW_BUCKET']}" in mlflow["command"]


def test_dags_follow_the_setting(env: dict[str, str]) -> None:
    for asked, paused in (("", "false"), ("true", "true")):
        services = compose_services(env | {"MUR_DAGS_PAUSED": asked})
        for name in AIRFLOWS:
            given = services[name]["environment"]["AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION"]
            assert given == paused, name


def test_every_kubernetes_container_of_ours_takes_all_settings() -> None:
    """A key added to the ConfigMap reaches every container; only secrets are listed one by one."""
    found = 0
    for path in sorted((KUBERNETES / "base").glob("*.yaml")):
        for container in _containers(list(yaml.safe_load_all(path.read_text()))):
            if container["image"].removeprefix("make-us-rich/") not in OUR_IMAGES:
                continue
            found += 1
            assert {"configMapRef": {"name": "settings"}} in container["envFrom"], container["name"]
            for variable in container.get("env", []):
                field = variable["name"].removeprefix("MUR_").lower()
                assert IS_SECRET.get(field, True), f"{variable['name']} belongs into the ConfigMap"
    assert found >= 7
    airflow = yaml.safe_load((KUBERNETES / "airflow" / "values.yaml").read_text())
    assert {"configMapRef": {"name": "settings"}} in yaml.safe_load(airflow["extraEnvFrom"])
    (settings, *_) = yaml.safe_load_all((KUBERNETES / "base" / "settings.yaml").read_text())
    assert set(FIXED) - {"cache_folder"} <= {key.removeprefix("MUR_").lower() for key in settings["data"]}


def _containers(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield from value.get("containers", [])
        for inner in value.values():
            yield from _containers(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _containers(inner)
