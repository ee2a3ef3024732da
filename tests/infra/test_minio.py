"""MinIO beside the default store: what compose.minio.yml changes, and the keys that minio.sh makes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.support.compose import all_compose_variables, compose_services
from tests.support.processes import PROJECT_ROOT

DOCKER = PROJECT_ROOT / "infra" / "docker"
OVERRIDE = DOCKER / "compose.minio.yml"


def test_minio_takes_the_place_of_s3_and_nothing_else_changes() -> None:
    env = {name: value for name, value in all_compose_variables().items() if name != "MINIO_IMAGE"}
    plain, services = compose_services(env), compose_services(env, OVERRIDE)
    before, after = plain.pop("s3"), services.pop("s3")

    assert services == plain, "who uses the store finds it at the same address with the same keys"
    assert after["image"] == "quay.io/minio/minio:RELEASE.2025-09-07T16-13-09Z"
    assert after["command"] == ["minio", "server", "/data", "--address=:8333"]
    assert after["volumes"] == ["minio-data:/data", "./infra/docker/minio.sh:/s3.sh:ro"], "not SeaweedFS's files"
    assert before["environment"].items() <= after["environment"].items()
    assert after["healthcheck"]["test"][-1] == "test -e /tmp/keys-made && mc ready own"
    assert {key: after[key] for key in ("entrypoint", "networks", "restart")} == {
        key: before[key] for key in ("entrypoint", "networks", "restart")
    }
    assert "minio-data" in yaml.safe_load(OVERRIDE.read_text())["volumes"]


def test_each_key_opens_its_bucket_alone(tmp_path: Path) -> None:
    """Its `mc` notes how it is called, and keeps the policies; the workflow ci.yml starts the real one."""
    calls = _run(tmp_path, mc='case "$*" in *"policy create"*) cp "$6" "$LOG.$5" ;; *attach*) exit 1 ;; esac')

    assert calls == [
        "alias set --quiet own http://127.0.0.1:8333 root-key root-secret",
        f"admin policy create own candles {tmp_path}/made.candles",
        "admin user add own candles-key candles-secret",
        "admin policy attach own candles --user candles-key",
        f"admin policy create own mlflow {tmp_path}/made.mlflow",
        "admin user add own mlflow-key mlflow-secret",
        "admin policy attach own mlflow --user mlflow-key",
    ]
    assert (tmp_path / "server").read_text() == "server /data root-key root-secret\n"
    assert (tmp_path / "made").exists(), "it is healthy once its keys are made"
    for name, bucket in (("candles", "my-candles"), ("mlflow", "mlflow")):
        (statement,) = _policy(tmp_path / f"calls.{name}")
        assert statement["Resource"] == [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
        assert not {"s3:*", "s3:CreateBucket", "s3:DeleteBucket"} & set(statement["Action"])


def test_a_key_that_cannot_be_made_leaves_it_unhealthy(tmp_path: Path) -> None:
    _run(tmp_path, mc='case "$*" in *"user add"*) exit 1 ;; esac')

    assert not (tmp_path / "made").exists()


def _policy(path: Path) -> list[dict[str, Any]]:
    statements: list[dict[str, Any]] = json.loads(path.read_text())["Statement"]
    return statements


def _run(folder: Path, mc: str) -> list[str]:
    log = folder / "calls"
    for name, body in (
        ("mc", f'echo "$@" >> $LOG\n{mc}'),
        ("minio", f'echo "$@ $MINIO_ROOT_USER $MINIO_ROOT_PASSWORD" > {folder}/server'),
        ("kill", "exit 0"),
    ):
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    keys = {"S3": "candles", "S3_MLFLOW": "mlflow", "S3_ADMIN": "root"}
    environment = {f"{name}_ACCESS_KEY": f"{value}-key" for name, value in keys.items()}
    environment |= {f"{name}_SECRET_KEY": f"{value}-secret" for name, value in keys.items()}
    environment |= {"LOG": str(log), "KEYS_MADE": f"{folder}/made", "S3_CANDLES_BUCKET": "my-candles"}
    environment["PATH"] = f"{folder}:{os.environ['PATH']}"
    command = ["sh", str(DOCKER / "minio.sh"), "minio", "server", "/data"]
    subprocess.run(command, env=environment, check=False, timeout=60)
    return log.read_text().splitlines()


def test_the_workflow_runs_the_tests_of_s3_on_that_minio() -> None:
    job = yaml.safe_load((PROJECT_ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]["minio"]
    runs = "\n".join(step.get("run", "") for step in job["steps"])
    assert f"-f {OVERRIDE.relative_to(PROJECT_ROOT)} up --wait s3" in runs
    suite = (PROJECT_ROOT / "tests" / "contract" / "test_s3.py").read_text()
    for name in ("MUR_TEST_S3_URL", "MUR_TEST_S3_ACCESS_KEY", "MUR_TEST_S3_SECRET_KEY"):
        assert f"{name}=" in runs
        assert name in suite
    assert "pytest tests/contract/test_s3.py" in runs
