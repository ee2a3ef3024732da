"""The ASGI app that uvicorn serves. MLflow reads its addresses from the environment at import."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.server.constants import ARTIFACTS_DESTINATION_ENV_VAR
from mlflow.store.artifact.artifact_repository_registry import get_registered_artifact_repositories
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_HEALTH = "/health"  # open, because health checks have no password
# MLflow's assistant runs commands and installs files for any caller on the server's own machine.
_ASSISTANT = "/ajax-api/3.0/mlflow/assistant"


class PasswordMiddleware:
    """Answers 401 to each request without the user and password, except to the health check."""

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
        if scope["path"].startswith(_ASSISTANT):
            return PlainTextResponse("MLflow's assistant is disabled here", 404)
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
    import os

    from mlflow.server.fastapi_app import app

    from make_us_rich.core.settings import get_settings

    confine_artifacts(os.environ[ARTIFACTS_DESTINATION_ENV_VAR])
    settings = get_settings()
    return PasswordMiddleware(app, settings.mlflow_user, settings.mlflow_password.get_secret_value())
