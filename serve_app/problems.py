"""Errors of the HTTP API as application/problem+json (RFC 9457): what happened, which field, and the way out."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException as StarletteHTTPException

from make_us_rich.core.errors import InputError, UnknownToken
from make_us_rich.database.pool import POSTGRES_UNAVAILABLE

_log = logging.getLogger("ray.serve")

WARMING_S = 30
MEDIA_TYPE = "application/problem+json"
_TYPE_PREFIX = "urn:make-us-rich:problem:"


class ProblemDocument(BaseModel):
    type: str
    title: str
    status: int
    detail: str
    field: str | None = None


class Problem(HTTPException):
    """An error answer. `kind` names it for programs, `detail` for people."""

    def __init__(
        self, status: int, kind: str, detail: str, *, field: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, detail, dict(headers or {}))
        self.kind = kind
        self.field = field

    def document(self) -> dict[str, Any]:
        """Return the body of the answer."""
        body = ProblemDocument(
            type=f"{_TYPE_PREFIX}{self.kind}",
            title=HTTPStatus(self.status_code).phrase,
            status=self.status_code,
            detail=self.detail,
            field=self.field,
        )
        return body.model_dump(exclude_none=True)

    def response(self) -> JSONResponse:
        """Return the answer that a client gets."""
        return JSONResponse(self.document(), self.status_code, self.headers, MEDIA_TYPE)


def unavailable(kind: str, detail: str, retry_after_s: int = 5) -> Problem:
    """Return a Problem 503 that says when to try again."""
    return Problem(503, kind, detail, headers={"Retry-After": str(retry_after_s)})


def install(app: FastAPI) -> None:
    """Let the application answer every exception with a problem document."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(InputError, _on_input_error)
    app.add_exception_handler(UnknownToken, _on_unknown_token)
    for away in POSTGRES_UNAVAILABLE:
        app.add_exception_handler(away, _on_database_away)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(StarletteHTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_unexpected_error)


async def _on_problem(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return error.response()


async def _on_input_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, InputError)
    return Problem(422, "bad-input", str(error), field=error.field).response()


async def _on_unknown_token(_: Request, error: Exception) -> JSONResponse:
    headers = {"WWW-Authenticate": 'Bearer realm="make-us-rich"'}
    return Problem(401, "unknown-token", str(error), field="token", headers=headers).response()


async def _on_database_away(_: Request, error: Exception) -> JSONResponse:
    _log.error("Postgres does not answer: %s", error)
    return unavailable("accounts-away", "tokens and quotas cannot be checked at the moment").response()


async def _on_validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        at = first["loc"][1]
        return Problem(422, "bad-input", f"the body is not JSON, at character {at}", field="body").response()
    if first["loc"] == ("body",) and "json" not in request.headers.get("Content-Type", "").lower():
        detail = "the body must be JSON: send the header 'Content-Type: application/json'"
        return Problem(422, "bad-input", detail, field="body").response()
    field = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
    return Problem(422, "bad-input", f"{field}: {first['msg']}", field=field).response()


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteHTTPException)
    if error.status_code == 400 and isinstance(error.__cause__, ValueError):
        return Problem(422, "bad-input", "the body is not JSON in UTF-8", field="body").response()
    headers, detail = error.headers, str(error.detail)
    if error.status_code == 404:
        detail = "nothing is at this path: /docs lists the endpoints"
    if error.status_code == 405:
        headers = {"Allow": ", ".join(sorted(_allowed_methods(request)))}
    return Problem(error.status_code, "http", detail, headers=headers).response()


def _allowed_methods(request: Request) -> set[str]:
    """Return the methods of every route of the path; Starlette names only those of the first."""
    path = request.url.path
    for template, operations in request.app.openapi()["paths"].items():
        pattern = re.sub(r"\{[^}]+\}", "[^/]+", template)
        if re.fullmatch(pattern, path):
            methods = {method.upper() for method in operations}
            return methods | {"HEAD"} if "GET" in methods else methods
    return set()


async def _on_unexpected_error(request: Request, error: Exception) -> JSONResponse:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return Problem(500, "internal", "the service failed; the call was not counted").response()


_MEANING = {
    401: "the token is absent, revoked, expired or was never issued",
    403: "the token is valid, but not an admin's",
    404: "the pair is not served",
    413: "the body is larger than a million bytes",
    422: "an input is malformed; `field` names it",
    429: "the calls of the month or the minute are used; Retry-After says when they come back",
    503: "no answer at the moment; Retry-After says when to try again",
}
_EXAMPLES = {
    error.status_code: error
    for error in (
        Problem(401, "unknown-token", "no token: send the header 'Authorization: Bearer TOKEN'", field="token"),
        Problem(403, "admins-only", "this needs an admin's token"),
        Problem(404, "unknown-pair", "doge_usdt is not served; served are: btc_usdt, eth_usdt", field="pair"),
        Problem(413, "body-too-large", "send at most 1000000 bytes", field="body"),
        Problem(422, "bad-input", "candles of '5m' are not forecast here: use 1h", field="interval"),
        Problem(429, "too-fast", "too many calls within a minute: wait 12 s"),
        unavailable("accounts-away", "tokens and quotas cannot be checked at the moment"),
    )
}
_NO_PARAMETER = Problem(422, "bad-input", "'interval' is no parameter of this endpoint: it takes none", field="query")


def errors(*statuses: int, takes_parameters: bool = True) -> dict[int | str, dict[str, Any]]:
    """Return FastAPI's `responses` of an endpoint for these statuses, each with an example."""
    schema = ProblemDocument.model_json_schema()
    examples = _EXAMPLES if takes_parameters else _EXAMPLES | {422: _NO_PARAMETER}
    return {
        status: {
            "description": _MEANING[status],
            "content": {MEDIA_TYPE: {"schema": schema, "example": examples[status].document()}},
        }
        for status in statuses
    }
