"""Error responses: a page for a person, JSON for a request of Dash's script."""

from __future__ import annotations

import math

from dash.exceptions import DependencyException
from flask import Flask, jsonify, render_template, request
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.wrappers import Response

from make_us_rich.core.errors import BadLink, TooManyAttempts
from make_us_rich.database.connection import POSTGRES_UNAVAILABLE

_DATABASE_RETRY_S = 10


def install(server: Flask) -> None:
    """Register the error handlers."""

    @server.errorhandler(CSRFError)
    def csrf_failed(_: CSRFError) -> Response:
        return _respond(400, "This page has expired", "Reload it and try again.")

    @server.errorhandler(BadLink)
    def bad_link(_: BadLink) -> Response:
        return _respond(410, "This link is no longer valid", "It was used or has expired. Ask an admin for a new one.")

    @server.errorhandler(TooManyAttempts)
    def too_many_attempts(error: TooManyAttempts) -> Response:
        minutes = math.ceil(error.retry_after_s / 60)
        text = (
            f"Wait {minutes} minute{'s' if minutes > 1 else ''}, then try again. "
            "A browser that has logged in to the account before is not affected."
        )
        return _respond(429, "Too many attempts", text, retry_after_s=math.ceil(error.retry_after_s))

    def database_down(error: Exception) -> Response:
        server.logger.error("Postgres does not answer: %s", error)
        text = "No data is lost. Try again in a minute."
        return _respond(503, "The database does not answer", text, retry_after_s=_DATABASE_RETRY_S)

    for kind in POSTGRES_UNAVAILABLE:
        server.register_error_handler(kind, database_down)

    @server.errorhandler(DependencyException)
    def unknown_script(_: DependencyException) -> Response:
        return http_error(NotFound())

    @server.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        code = error.code or 500
        if code == 404:
            return _respond(404, "Page not found", "Check the address.")
        if code >= 500:
            return _respond(code, "Internal error", "The error was logged. Try again later.")
        return _respond(code, error.name, error.description or "")


def _respond(status: int, title: str, text: str, *, retry_after_s: int | None = None) -> Response:
    if request.path.startswith("/_dash-"):
        response: Response = jsonify(error=title)
        response.status_code = status
    else:
        page = render_template("error.html", status=status, title=title, text=text)
        response = Response(page, status, mimetype="text/html")
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(retry_after_s)
    return response
