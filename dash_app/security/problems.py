"""What a visitor reads when something goes wrong: a page, or JSON for what a script asked."""

from __future__ import annotations

import math

from dash.exceptions import DependencyException
from flask import Flask, jsonify, render_template, request
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.wrappers import Response

from make_us_rich.core.errors import BadLink, TooManyAttempts
from make_us_rich.database.connection import AWAY

_RETRY_S = 10


def install(server: Flask) -> None:
    @server.errorhandler(CSRFError)
    def forged_or_old(_: CSRFError) -> Response:
        return _answer(400, "This page is too old", "Load it again, and repeat what you did.")

    @server.errorhandler(BadLink)
    def bad_link(_: BadLink) -> Response:
        return _answer(
            410, "This link does not work any more", "It was used or is too old. Ask an admin for a new one."
        )

    @server.errorhandler(TooManyAttempts)
    def too_many_tries(error: TooManyAttempts) -> Response:
        minutes = math.ceil(error.retry_after_s / 60)
        wait = f"Wait {minutes} minute{'s' if minutes > 1 else ''}, then try again."
        text = f"{wait} A browser that has logged in to the account before is not affected."
        answer = _answer(429, "Too many tries", text)
        answer.headers["Retry-After"] = str(math.ceil(error.retry_after_s))
        return answer

    def database_away(error: Exception) -> Response:
        server.logger.error("Postgres does not answer: %s", error)
        answer = _answer(503, "The database does not answer", "Nothing is lost. This is most likely over in a minute.")
        answer.headers["Retry-After"] = str(_RETRY_S)
        return answer

    for away in AWAY:
        server.register_error_handler(away, database_away)

    @server.errorhandler(DependencyException)
    def no_such_script(_: DependencyException) -> Response:
        return refused(NotFound())

    @server.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        code = error.code or 500
        if code == 404:
            return _answer(404, "There is no such page", "The address may be mistyped, or the page was moved.")
        if code >= 500:
            return _answer(code, "Something broke here", "It is not your doing, and it is in the log.")
        return _answer(code, error.name, error.description or "")


def _answer(status: int, title: str, text: str) -> Response:
    if request.path.startswith("/_dash-"):
        answer = jsonify(error=title)
        answer.status_code = status
        return answer
    return Response(render_template("error.html", status=status, title=title, text=text), status, mimetype="text/html")
