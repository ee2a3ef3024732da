"""MLflow refuses callers without the password, and artifacts outside of its store."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.servers import MLFLOW_LOGIN, mlflow_server

pytestmark = pytest.mark.timeout(300)

API = "/api/2.0/mlflow"
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
def test_no_caller_makes_the_server_write_or_read_elsewhere(caller: httpx.Client, tmp_path: Path, scheme: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "secret.txt").write_text("a secret")
    body = {"name": f"{scheme}{elsewhere}", "artifact_location": f"{scheme}{elsewhere}"}
    experiment = caller.post(f"{API}/experiments/create", json=body).raise_for_status().json()
    run = _run(caller, experiment["experiment_id"])
    folder = Path(run["artifact_uri"].removeprefix("file://"))

    written = caller.post(UPLOAD, params={"run_uuid": run["run_id"], "path": "a.txt"}, content=b"x")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "secret.txt").write_text("a secret")
    read = caller.get("/get-artifact", params={"run_uuid": run["run_id"], "path": "secret.txt"})

    assert (written.status_code, read.status_code) == (400, 400), (written.text, read.text)
    assert "artifacts are stored below" in written.json()["message"]
    assert {file.name for file in elsewhere.rglob("*.txt")} == {"secret.txt"}


@pytest.mark.parametrize("path", ["../../a.txt", "..%2F..%2Fa.txt", "/etc/a.txt", "%2Fetc%2Fa.txt"])
def test_no_path_leads_out_of_the_store(caller: httpx.Client, path: str) -> None:
    answer = caller.put(f"/api/2.0/mlflow-artifacts/artifacts/{path}", content=b"x")

    assert answer.status_code in (400, 404, 405), answer.text


def test_what_the_pipeline_stores_comes_back(caller: httpx.Client) -> None:
    run = _run(caller, "0")
    stored = caller.post(UPLOAD, params={"run_uuid": run["run_id"], "path": "a/b.txt"}, content=b"x")
    stored.raise_for_status()

    read = caller.get("/get-artifact", params={"run_uuid": run["run_id"], "path": "a/b.txt"})

    assert read.content == b"x"
    assert run["artifact_uri"].startswith("mlflow-artifacts:/")


def test_the_assistant_that_runs_commands_is_disabled(caller: httpx.Client) -> None:
    for method, path in (("GET", "config"), ("PUT", "config"), ("POST", "message"), ("POST", "skills/install")):
        answer = caller.request(method, f"/ajax-api/3.0/mlflow/assistant/{path}", json={})
        assert answer.status_code == 404, path


def _run(caller: httpx.Client, experiment_id: str) -> dict[str, str]:
    body = {"experiment_id": experiment_id}
    made: dict[str, str] = caller.post(f"{API}/runs/create", json=body).raise_for_status().json()["run"]["info"]
    return made
