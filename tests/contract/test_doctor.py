"""`mkrich doctor` on faults that a component itself does not notice, or that are no fault of a component."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from make_us_rich.core.settings import Settings
from make_us_rich.embedded.components import AIRFLOW
from make_us_rich.embedded.ports import PORT_OFFSETS
from make_us_rich.market.object_store import ObjectStore
from make_us_rich.operations import health
from make_us_rich.operations.health import HealthResult
from tests.support.app_threads import running_app
from tests.support.servers import S3_KEYS, s3_server

pytestmark = pytest.mark.usefixtures("quick_retries")

LOGIN = dict(zip(("s3_access_key", "s3_secret_key"), S3_KEYS, strict=True))
NO_OBJECTS = (
    '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>candles</Name><Prefix/>'
    "<KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>"
)
REFUSED = "<Error><Code>{code}</Code><Message>we encountered an error</Message></Error>"


def found(settings: Settings, name: str) -> HealthResult:
    """Run one check alone: the others ask servers that these tests do not have."""
    return health._run_check(settings, name)


@pytest.fixture(params=[(403, "AccessDenied"), (500, "InternalError"), (507, "InsufficientStorage")])
def read_only_s3(request: pytest.FixtureRequest) -> Iterator[str]:
    """An S3 store that lists and reads, and refuses to write, as one with a full disk does."""
    status, code = request.param

    def answer(asked: Request) -> Response:
        if asked.method == "GET":
            return Response(NO_OBJECTS, media_type="application/xml")
        return Response(REFUSED.format(code=code), status, media_type="application/xml")

    app = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "PUT", "DELETE"])])
    with running_app(app) as url:
        yield url


def test_an_s3_store_that_cannot_be_written_is_not_ok(read_only_s3: str) -> None:
    result = found(Settings(s3_endpoint_url=read_only_s3, **LOGIN), "s3")

    assert result.state == "failed"
    assert "can be read and not written" in result.detail
    assert "disk" in result.way_out


def test_an_s3_store_that_was_written_has_nothing_of_the_check_left() -> None:
    with s3_server() as url:
        settings = Settings(s3_endpoint_url=url, **LOGIN)
        store = ObjectStore.from_settings(settings)
        store.ensure_bucket()

        assert found(settings, "s3").state == "ok"
        assert store.list_keys("") == []


class Usage(NamedTuple):
    free: int


@pytest.mark.parametrize("full", ["state", "tmp"])
def test_the_disk_is_that_of_the_data_rather_than_of_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr(health.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    full_folder = tmp_path / full
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**20 if Path(path) == full_folder else 2**40))

    result = found(Settings(cache_folder=str(state / "serving")), "disk")

    assert result.state == "warning"
    assert str(full_folder) in result.detail
    assert str(full_folder) in result.way_out


@pytest.fixture
def airflow_with_paused_dags() -> Iterator[str]:
    """Airflow's answers, healthy, with one DAG of two paused."""
    dags = [{"dag_id": "train_pairs", "is_paused": False}, {"dag_id": "watch_service", "is_paused": True}]

    def listed(asked: Request) -> Response:
        shown = [dag for dag in dags if dag["is_paused"] or "paused" not in asked.query_params]
        return JSONResponse({"dags": shown, "total_entries": len(shown)})

    routes = [
        Route("/api/v2/monitor/health", lambda _: JSONResponse({"scheduler": {"status": "healthy"}})),
        Route("/auth/token", lambda _: JSONResponse({"access_token": "a-token"}, 201), methods=["POST"]),
        Route("/api/v2/dags", listed),
    ]
    with running_app(Starlette(routes=routes)) as url:
        yield url


def test_a_paused_dag_is_a_finding_unless_the_settings_pause_them(airflow_with_paused_dags: str) -> None:
    settings = Settings(airflow_url=airflow_with_paused_dags, airflow_user="admin", airflow_password="a password")
    result = found(settings, "airflow")
    on_purpose = found(settings.model_copy(update={"dags_paused": True}), "airflow")

    assert (result.state, on_purpose.state) == ("warning", "ok")
    assert "watch_service" in result.detail
    assert "train_pairs" not in result.detail
    assert "mkrich start agent" in result.way_out
    assert "MUR_DAGS_PAUSED" in on_purpose.detail


def test_every_log_that_a_remedy_names_is_one_of_the_embedded_stack() -> None:
    programs = {*AIRFLOW, *PORT_OFFSETS} - {"airflow", "api"}  # those two ports belong to programs of other names

    named = {health._PROGRAMS.get(name, name) for name in health._CHECKS if name != "disk"}

    assert named <= programs
