"""MLflow's tracking server with a password, confined to its artifact store.

    python -m infra.mlflow_server --host 127.0.0.1 --port 5000 --artifacts-destination s3://mlflow

`mlflow server` has no authentication, and an experiment may use any folder of the server as its artifact store.
MLflow's own basic-auth app is marked experimental, keeps its users in a database that a changed setting does not reach,
hashes a password on each request, and still lets a user name any folder. Here each request but the health check needs
HTTP basic authentication, and every artifact lies in the store. MLflow has about 400 paths: its assistant runs commands
on the server's machine, its gateway calls other hosts. Only those are answered that the product uses, and those that
MLflow's pages need to show them.

MLflow's own variables hold the addresses of the database and of S3. The password is MUR_MLFLOW_PASSWORD, the same
setting that the clients of the server read.
"""

from __future__ import annotations

import argparse
import base64
import hmac
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import uvicorn
from mlflow.environment_variables import _MLFLOW_SGI_NAME, MLFLOW_SERVER_ENABLE_JOB_EXECUTION
from mlflow.exceptions import MlflowException
from mlflow.server import constants, handlers
from mlflow.store.artifact.artifact_repository_registry import get_registered_artifact_repositories
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from make_us_rich.core.errors import SettingsError
from make_us_rich.core.settings import get_settings

_DATABASE = "MLFLOW_BACKEND_STORE_URI"
_PROXIED = "mlflow-artifacts:/"  # clients read and write artifacts through this server
_HEALTH = "/health"  # open, because health checks have no password

# What the product asks of MLflow, by its own client and by MLflow's, and what a notebook needs to load a model.
_CLIENTS = (
    "GET experiments/(get|get-by-name|search)",
    "POST experiments/(create|search)",
    "GET runs/get",
    "POST runs/(create|update|search|log-batch|log-metric|log-parameter|set-tag|outputs|delete)",
    "GET metrics/get-history",
    "POST logged-models(/search)?",
    "(GET|PATCH) logged-models/m-[0-9a-f]+",
    "GET registered-models/(get|search|alias)",
    "POST registered-models/(create|alias)",
    "GET model-versions/(get|search|get-download-uri)",
    "POST model-versions/(create|set-tag)",
    "DELETE model-versions/delete",
)
# What MLflow's pages ask for to show experiments, runs and models. They change nothing.
_PAGES = (
    "GET (artifacts/list|users/current)",
    "GET experiments/(get|get-by-name|search)",
    "GET runs/get",
    "GET metrics/get-history(-bulk-interval|-bulk)?",
    "GET logged-models/m-[0-9a-f]+(/artifacts/directories)?",
    "GET (registered-models|model-versions)/(get|search|alias)",
    "POST (runs|logged-models)/search",
    "POST experiments/search-datasets",
)
_OTHERS = (
    "(GET|PUT|DELETE) /api/2[.]0/mlflow-artifacts/artifacts(/.+)?",
    "GET /api/2[.]0/mlflow-artifacts/presigned/.+",  # of a store in S3, which the client asks for before a download
    "GET /(ajax-)?api/3[.]0/mlflow/server-info",
    "GET /(version|get-artifact|model-versions/get-artifact|static-files/.+)?",
    "POST /graphql",
)
_ALLOWED = re.compile(
    "|".join(
        [re.sub(" ", " /api/2[.]0/mlflow/", item, count=1) for item in _CLIENTS]
        + [re.sub(" ", " /ajax-api/2[.]0/mlflow/", item, count=1) for item in _PAGES]
        + list(_OTHERS)
    )
)


class PasswordMiddleware:
    """Answers 401 without the user and password, and 403 to what the product does not use; the health check is open."""

    def __init__(self, app: ASGIApp, user: str, password: str) -> None:
        self._app = app
        self._expected = b"Basic " + base64.b64encode(f"{user}:{password}".encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := self._refusal(scope)):
            await refusal(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})  # MLflow serves none
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        if scope["path"] == _HEALTH and scope["method"] in ("GET", "HEAD"):
            return None
        given = dict(scope["headers"]).get(b"authorization", b"")
        if not hmac.compare_digest(given, self._expected):
            challenge = {"WWW-Authenticate": 'Basic realm="MLflow", charset="UTF-8"'}
            return PlainTextResponse("log in as MUR_MLFLOW_USER", 401, challenge)
        asked = f"{'GET' if scope['method'] == 'HEAD' else scope['method']} {scope['path']}"
        if not _ALLOWED.fullmatch(asked):
            return PlainTextResponse(f"not allowed here: {asked[:200]}. infra/mlflow_server.py lists what is", 403)
        return None


def confine_artifacts(destination: str) -> None:
    """Refuse, in this process, every artifact URI that is not at or below `destination`."""
    repositories: Any = get_registered_artifact_repositories()  # its annotation names instances; it holds classes
    for scheme, repository in repositories.items():
        repositories[scheme] = _only_below(destination.rstrip("/"), repository)


def _only_below(root: str, repository: Callable[..., Any]) -> Callable[..., Any]:
    def open_repository(artifact_uri: str, **more: Any) -> Any:
        outside = artifact_uri != root and not artifact_uri.startswith(f"{root}/")
        if outside or ".." in artifact_uri.split("/"):
            raise MlflowException.invalid_parameter_value(
                f"artifacts are stored below {root}: this server neither reads nor writes {artifact_uri}"
            )
        return repository(artifact_uri, **more)

    return open_repository


def create() -> ASGIApp:
    """Create the app; uvicorn calls this in each of its processes."""
    from mlflow.server.fastapi_app import app  # reads its addresses from the environment at import

    confine_artifacts(os.environ[constants.ARTIFACTS_DESTINATION_ENV_VAR])
    settings = get_settings()
    return PasswordMiddleware(app, settings.mlflow_user, settings.mlflow_password.get_secret_value())


def main() -> None:
    parser = argparse.ArgumentParser(description="MLflow's tracking server with a password")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--artifacts-destination", required=True, help="such as s3://mlflow")
    arguments = parser.parse_args()
    try:
        database = _database_url()
    except SettingsError as error:
        sys.exit(f"error: {error}")

    # The environment that `mlflow server` gives its workers.
    os.environ |= {
        constants.BACKEND_STORE_URI_ENV_VAR: database,
        constants.REGISTRY_STORE_URI_ENV_VAR: database,
        constants.ARTIFACT_ROOT_ENV_VAR: _PROXIED,
        constants.ARTIFACTS_DESTINATION_ENV_VAR: arguments.artifacts_destination,
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION.name: "false",
        _MLFLOW_SGI_NAME.name: "uvicorn",
    }
    # migrates the database, once, before the workers start
    handlers.initialize_backend_stores(database, database, _PROXIED)
    uvicorn.run(
        "infra.mlflow_server:create",
        factory=True,
        host=arguments.host,
        port=arguments.port,
        workers=arguments.workers,
        log_level="info",
    )


def _database_url() -> str:
    """Return the address of MLflow's database. Raises SettingsError for a missing setting."""
    if not get_settings().mlflow_password.get_secret_value():
        raise SettingsError("MUR_MLFLOW_PASSWORD is empty: set it, because without it anyone could replace a model")
    if _DATABASE not in os.environ:
        raise SettingsError(f"{_DATABASE} is not set: give it the URL of MLflow's database")
    return os.environ[_DATABASE]


if __name__ == "__main__":
    main()
