"""MLflow refuses callers without the password, and artifacts outside of its store."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.servers import MLFLOW_LOGIN, mlflow_server

pytestmark = pytest.mark.timeout(300)

API = "/api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
UPLOAD = "/ajax-api/2.0/mlflow/upload-artifact"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with mlflow_server() as running:
        yield running


@pytest.fixture
def stranger(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=30) as client:
        yield client


@pytest.fixture
def caller(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=30, auth=MLFLOW_LOGIN) as client:
        yield client


def test_a_caller_without_the_password_creates_no_experiment(stranger: httpx.Client, caller: httpx.Client) -> None:
    refused = stranger.post(f"{API}/experiments/create", json={"name": "by a stranger"})

    assert refused.status_code == 401, refused.text
    assert refused.headers["www-authenticate"].startswith("Basic")
    found = caller.get(f"{API}/experiments/get-by-name", params={"experiment_name": "by a stranger"})
    assert found.status_code == 404


@pytest.mark.parametrize(
    "login",
    [("make_us_rich", "wrong"), ("admin", MLFLOW_LOGIN[1]), ("make_us_rich", "")],
    ids=["password", "user", "empty"],
)
def test_a_wrong_login_is_refused(url: str, login: tuple[str, str]) -> None:
    assert httpx.get(f"{url}{API}/experiments/get?experiment_id=0", auth=login).status_code == 401


def test_every_path_but_the_health_check_requires_the_password(stranger: httpx.Client) -> None:
    with warnings.catch_warnings(action="ignore"):  # MLflow's own, at import
        from mlflow.server import handlers
    open_to_all = set()
    asked = [(path, methods) for path, _, methods in handlers.get_endpoints()]
    asked += [("/", ["GET"]), ("/version", ["GET"]), ("/graphql", ["POST"]), ("/static-files/a", ["GET"])]
    asked += [(UPLOAD, ["POST"]), ("/get-artifact", ["GET"]), ("/v1/traces", ["POST"])]
    asked += [("/api/2.0/mlflow-artifacts/artifacts/a", ["GET", "PUT", "DELETE"]), ("/health", ["GET"])]
    asked += [("/ajax-api/3.0/mlflow/assistant/config", ["GET", "PUT"]), ("//health", ["GET"])]
    assert len(asked) > 200
    for path, methods in asked:
        for method in methods:
            if stranger.request(method, path).status_code != 401:
                open_to_all.add((method, path))
    assert open_to_all == {("GET", "/health")}


@pytest.mark.parametrize("scheme", ["file://", ""])
def test_no_caller_makes_the_server_read_elsewhere(caller: httpx.Client, tmp_path: Path, scheme: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    body = {"name": f"{scheme}{elsewhere}", "artifact_location": f"{scheme}{elsewhere}"}
    experiment = caller.post(f"{API}/experiments/create", json=body).raise_for_status().json()
    run = _run(caller, experiment["experiment_id"])
    folder = Path(run["artifact_uri"].removeprefix("file://"))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "secret.txt").write_text("a secret")

    read = caller.get("/get-artifact", params={"run_uuid": run["run_id"], "path": "secret.txt"})

    assert read.status_code == 400, read.text
    assert "artifacts are stored below" in read.json()["message"]


@pytest.mark.parametrize("path", ["../../a.txt", "..%2F..%2Fa.txt", "/etc/a.txt", "%2Fetc%2Fa.txt"])
def test_no_path_leads_out_of_the_store(caller: httpx.Client, path: str) -> None:
    answer = caller.put(f"{ARTIFACTS}/{path}", content=b"x")

    assert answer.status_code in (400, 403, 404, 405), answer.text


def test_what_the_pipeline_stores_comes_back(caller: httpx.Client) -> None:
    run = _run(caller, "0")
    folder = run["artifact_uri"].removeprefix("mlflow-artifacts:")
    caller.put(f"{ARTIFACTS}{folder}/a/b.txt", content=b"x").raise_for_status()

    read = caller.get("/get-artifact", params={"run_uuid": run["run_id"], "path": "a/b.txt"})

    assert read.content == b"x"
    assert run["artifact_uri"].startswith("mlflow-artifacts:/")


def test_only_what_the_product_uses_is_answered(caller: httpx.Client) -> None:
    """What the product and MLflow's pages call is in the tests of both; here is the rest of MLflow."""
    with warnings.catch_warnings(action="ignore"):
        from mlflow.server import handlers
    asked = [(method, path) for path, _, methods in handlers.get_endpoints() for method in methods if method != "HEAD"]
    asked += [
        (method, f"/ajax-api/3.0/mlflow/assistant/{name}")
        for method in ("GET", "POST")
        for name in ("config", "message")
    ]
    asked += [
        ("POST", UPLOAD),
        ("GET", "/ajax-api/2.0/mlflow/gateway-proxy"),
        ("POST", "/v1/traces"),
        ("GET", "/metrics"),
    ]
    asked += [("POST", "/api/2.0/mlflow/model-versions/get-download-uri/x"), ("GET", "//api/2.0/mlflow/runs/get")]
    allowed = {(method, path) for method, path in asked if _status(caller, method, path) != 403}

    assert len(asked) > 350
    writing = {
        path.partition("/mlflow/")[2] for method, path in allowed if method != "GET" and "/ajax-api/" not in path
    }
    assert writing == {
        "experiments/create",
        "experiments/search",
        "runs/create",
        "runs/update",
        "runs/search",
        "runs/log-batch",
        "runs/log-metric",
        "runs/log-parameter",
        "runs/set-tag",
        "runs/outputs",
        "runs/delete",
        "logged-models",
        "logged-models/search",
        "logged-models/<model_id>",
        "registered-models/create",
        "registered-models/alias",
        "model-versions/create",
        "model-versions/set-tag",
        "model-versions/delete",
        "",  # /graphql, and artifacts
    }
    assert all("search" in path for method, path in allowed if method != "GET" and "/ajax-api/" in path)
    assert not any(word in path for _, path in allowed for word in ("webhook", "gateway", "assistant", "trace", "job"))


def test_a_model_is_loaded_by_mlflows_own_client(url: str) -> None:
    """As from a notebook: by its alias, with the log-in of the environment."""
    import mlflow
    from mlflow import MlflowClient

    mlflow.set_tracking_uri(url)
    client = MlflowClient(url)
    client.create_registered_model("eth_usdt_1h")
    with mlflow.start_run() as run:
        mlflow.log_metric("loss", 1.0)
        mlflow.log_param("pair", "eth_usdt")
        mlflow.log_text("a model", "model/model.onnx")
    version = client.create_model_version("eth_usdt_1h", f"{run.info.artifact_uri}/model", run.info.run_id)
    client.set_registered_model_alias("eth_usdt_1h", "champion", version.version)

    path = mlflow.artifacts.download_artifacts("models:/eth_usdt_1h@champion")

    assert (Path(path) / "model.onnx").read_text() == "a model"
    assert [found.info.run_id for found in client.search_runs(["0"], max_results=1)]
    assert [found.name for found in client.search_experiments()]


def _status(caller: httpx.Client, method: str, path: str) -> int:
    plain = re.sub(r"<[^>]*>|[{][^}]*[}]", "m-0", path)
    return caller.request(method, plain).status_code


def _run(caller: httpx.Client, experiment_id: str) -> dict[str, str]:
    body = {"experiment_id": experiment_id}
    made: dict[str, str] = caller.post(f"{API}/runs/create", json=body).raise_for_status().json()["run"]["info"]
    return made
