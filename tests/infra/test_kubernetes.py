"""The manifests fit the schemas of Kubernetes and KubeRay; an unknown field is an error."""

from __future__ import annotations

import copy
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from make_us_rich import __version__
from make_us_rich.core.settings import Settings
from make_us_rich.pipeline.deployment import desired_config
from tests.support.processes import PROJECT_ROOT
from tests.support.recorded_data import not_downloaded

FOLDER = PROJECT_ROOT / "infra" / "kubernetes"
_GIVEN = os.environ.get("MUR_TEST_SCHEMAS")
_PLACES = [Path(_GIVEN)] if _GIVEN else [PROJECT_ROOT / "data" / "schemas", PROJECT_ROOT.parent / "shared" / "schemas"]
KUBERAY = next((folder for place in _PLACES if (folder := place / "kuberay").is_dir()), _PLACES[0] / "kuberay")
INGRESSES = (FOLDER / "airflow" / "ingress.yaml", FOLDER / "overlays" / "large" / "ingress.yaml")
OVERLAYS = ("small", "large")
VERSION = "1.33"

needs_kustomize = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl, which holds kustomize, is not on PATH"
)
needs_kuberay = pytest.mark.skipif(not KUBERAY.is_dir(), reason=not_downloaded("KubeRay's schemas"))


@pytest.fixture(scope="module", params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    command = ["kubectl", "kustomize", str(FOLDER / "overlays" / request.param)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def _files() -> list[Path]:
    more = [FOLDER / "secrets.example.yaml", *INGRESSES]
    return [*sorted((FOLDER / "base").glob("*.yaml")), *more]


def _documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def _is_rays(manifest: dict[str, Any]) -> bool:
    return bool(manifest["apiVersion"].startswith("ray.io/"))


def _validate(manifest: dict[str, Any]) -> None:
    if _is_rays(manifest):
        jsonschema.validate(manifest, _kuberay_schema(manifest["kind"]))
    else:
        kubernetes_validate.validate(manifest, VERSION, strict=True)


@cache
def _kuberay_schema(kind: str) -> dict[str, Any]:
    with (KUBERAY / f"ray.io_{kind.lower()}s.yaml").open() as file:
        crd = yaml.load(file, yaml.CSafeLoader)
    (version,) = [item for item in crd["spec"]["versions"] if item["name"] == "v1"]
    schema: dict[str, Any] = _strict(version["schema"]["openAPIV3Schema"])
    return schema


def _strict(schema: Any) -> Any:
    """Forbid additional properties wherever properties are listed, as the API server's strict validation does."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _strict(value) for key, value in schema.items()}
    closed = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if closed and "additionalProperties" not in schema:
        strict["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields", False))
    return strict


@pytest.mark.parametrize("path", _files(), ids=lambda path: path.name)
def test_every_file_keeps_the_schemas(path: Path) -> None:
    for manifest in _documents(path):
        if manifest.get("kind") == "Kustomization" or (_is_rays(manifest) and not KUBERAY.is_dir()):
            continue
        _validate(manifest)


@needs_kustomize
@needs_kuberay
def test_what_is_rendered_keeps_the_schemas(manifests: list[dict[str, Any]]) -> None:
    kinds = [manifest["kind"] for manifest in manifests]
    assert {"RayCluster", "RayService", "Deployment", "NetworkPolicy", "CronJob"} <= set(kinds)
    for manifest in manifests:
        _validate(manifest)


@needs_kuberay
def test_a_misspelt_field_and_a_wrong_type_are_refused() -> None:
    (cluster,) = _documents(FOLDER / "base" / "training.yaml")
    misspelt, wrong = copy.deepcopy(cluster), copy.deepcopy(cluster)
    misspelt["spec"]["headGroupSpec"]["rayStartParam"] = {}
    wrong["spec"]["workerGroupSpecs"][0]["maxReplicas"] = "two"
    for broken in (misspelt, wrong):
        with pytest.raises(jsonschema.ValidationError):
            _validate(broken)


def test_the_first_serve_configuration_is_the_deployers_own() -> None:
    (service,) = _documents(FOLDER / "base" / "forecasts.yaml")
    (given, _) = _documents(FOLDER / "base" / "settings.yaml")
    values = {name: given["data"][f"MUR_{name.upper()}"] for name in ("api_url", "gateway_replicas")}
    settings = Settings(**values)
    assert settings.gateway_replicas == "1-4", "load adds gateways on a cluster"
    assert yaml.safe_load(service["spec"]["serveConfigV2"]) == desired_config(settings, (), {})


@needs_kustomize
def test_every_setting_exists_and_every_reference_is_met(manifests: list[dict[str, Any]]) -> None:
    secrets = {item["metadata"]["name"]: item for item in _documents(FOLDER / "secrets.example.yaml")}
    maps = {item["metadata"]["name"]: item for item in manifests if item["kind"] == "ConfigMap"}
    known = {f"MUR_{name.upper()}" for name in Settings.model_fields} | {"MUR_ADMIN_PASSWORD"}
    keys = [*(key for item in maps.values() for key in item["data"])]
    keys += [key for item in secrets.values() for key in item["stringData"]]
    assert {key for key in keys if key.startswith("MUR_")} <= known

    for container in _containers(manifests):
        for source in container.get("envFrom", []):
            for kind, held in (("secretRef", secrets), ("configMapRef", maps)):
                assert kind not in source or source[kind]["name"] in held
        for variable in container.get("env", []):
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            assert reference is None or reference["key"] in secrets[reference["name"]]["stringData"]


@needs_kustomize
def test_every_component_starts_in_production(manifests: list[dict[str, Any]]) -> None:
    """Only its manifest's environment is set; each `change-me` is replaced, because Settings refuses weak secrets."""
    secrets = {
        item["metadata"]["name"]: {
            key: value.replace("change-me", "kV7w-0pQz3mR8sTy") for key, value in item["stringData"].items()
        }
        for item in _documents(FOLDER / "secrets.example.yaml")
    }
    maps = {item["metadata"]["name"]: item["data"] for item in manifests if item["kind"] == "ConfigMap"}
    started = 0
    for container in _containers(manifests):
        given: dict[str, str] = {}
        for source in container.get("envFrom", []):
            given |= maps[source["configMapRef"]["name"]] if "configMapRef" in source else {}
            given |= secrets[source["secretRef"]["name"]] if "secretRef" in source else {}
        if "MUR_ENVIRONMENT" in given:
            fields = {key.removeprefix("MUR_").lower(): given[key] for key in given if key.startswith("MUR_")}
            assert Settings(**fields).environment == "production"  # type: ignore[arg-type]
            if container["name"] not in ("setup", "backup"):
                assert given["MUR_MLFLOW_PASSWORD"], f"{container['name']} cannot log in to MLflow"
            started += 1
    assert started >= 7


@needs_kustomize
def test_nobody_is_root_and_every_image_has_a_version(manifests: list[dict[str, Any]]) -> None:
    for pod in _pods(manifests):
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in _containers(manifests):
        assert container["image"].startswith("make-us-rich/")
        assert container["image"].endswith(f":{__version__}")
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]


def test_airflows_values_name_secrets_that_exist() -> None:
    values = yaml.safe_load((FOLDER / "airflow" / "values.yaml").read_text())
    secrets = {item["metadata"]["name"]: item for item in _documents(FOLDER / "secrets.example.yaml")}
    airflow = secrets["airflow"]["stringData"]
    assert {"connection", "fernet-key", "api-secret-key", "jwt-secret", "admin-password"} <= set(airflow)
    for item in values["secret"]:
        assert item["secretKey"] in secrets[item["secretName"]]["stringData"]
    env = {item["name"]: item["value"] for item in values["env"]}
    assert env["AIRFLOW__CORE__AUTH_MANAGER"].endswith(".FabAuthManager")
    assert env["AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION"] == "False"
    assert "python -m infra.docker.airflow_admin" in values["migrateDatabaseJob"]["args"][-1]
    for source in yaml.safe_load(values["extraEnvFrom"]):
        assert "configMapRef" in source or source["secretRef"]["name"] in secrets


NGINX = "nginx.ingress.kubernetes.io"
PASSWORD_PATHS = {
    "app.example.com": ["/login", "/register", "/set-password/x"],
    "airflow.example.com": ["/auth/login", "/auth/login/", "/auth/token", "/auth/token/cli"],
}


def _annotations(host: str, path: str) -> dict[str, str]:
    """Return the annotations for a path: nginx takes the longest prefix of whole parts."""
    found: dict[str, dict[str, str]] = {}
    for manifest in (document for file in INGRESSES for document in _documents(file)):
        for rule in manifest["spec"]["rules"]:
            for item in rule["http"]["paths"]:
                prefix = item["path"].rstrip("/")
                if rule["host"] == host and (path == prefix or path.startswith(f"{prefix}/")):
                    found[prefix] = manifest["metadata"]["annotations"]
    return found[max(found, key=len)]


def test_what_takes_a_password_has_a_rate_of_its_own() -> None:
    proxy = (PROJECT_ROOT / "infra" / "docker" / "nginx.conf").read_text()
    (limited,) = re.findall(r'"~\^POST (.*)\$" "', proxy)
    for host, paths in PASSWORD_PATHS.items():
        for path in paths:
            assert re.fullmatch(limited, path), f"the proxy of Compose does not limit {path}"
            annotations = _annotations(host, path)
            assert int(annotations[f"{NGINX}/limit-rpm"]) <= 30, path
            assert annotations[f"{NGINX}/limit-burst-multiplier"] == "1", path
        assert f"{NGINX}/limit-rps" in _annotations(host, "/"), host


def test_the_api_of_airflows_tasks_is_not_published() -> None:
    for path in ("/execution", "/execution/health", "/execution/task-instances/1/run"):
        assert _annotations("airflow.example.com", path)[f"{NGINX}/whitelist-source-range"] == "127.0.0.1/32"
    assert f"{NGINX}/whitelist-source-range" not in _annotations("airflow.example.com", "/api/v2/version")
    values = yaml.safe_load((FOLDER / "airflow" / "values.yaml").read_text())
    assert values["ingress"] == {"apiServer": {"enabled": False}}


def _pods(manifests: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for manifest in manifests:
        yield from _pods_of(manifest.get("spec", {}))


def _pods_of(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "containers" in value:
            yield value
        for inner in value.values():
            yield from _pods_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _pods_of(inner)


def _containers(manifests: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for pod in _pods(manifests):
        yield from pod["containers"]
