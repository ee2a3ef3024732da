"""Nobody in without a log-in, and headers that make a browser careful."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from flask import Flask, Response, abort, jsonify, redirect, request, url_for
from flask_login import current_user
from werkzeug.wrappers import Response as BaseResponse

# Dash's own scripts and our styles tell nothing; the log-in pages need the styles.
_STATIC_PREFIXES = ("/assets/", "/_dash-component-suites/", "/static/")
_OPEN_PREFIXES = (*_STATIC_PREFIXES, "/set-password/")
_OPEN_PATHS = frozenset({"/login", "/register", "/logout", "/healthz", "/_favicon.ico"})

# Dash renders inline scripts and styles; no other host may be spoken to.
_CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "form-action 'self'",
        "base-uri 'self'",
    )
)


def install(server: Flask) -> None:
    server.before_request(_refuse_strangers)
    server.after_request(_harden)


def admins_only(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Directly above a callback's function: whoever calls it without being an admin gets a 403, and nothing happens."""

    @wraps(callback)
    def guarded(*arguments: Any) -> Any:
        if not current_user.is_admin:
            abort(403, "This is for admins.")
        return callback(*arguments)

    return guarded


def _refuse_strangers() -> BaseResponse | None:
    if request.path in _OPEN_PATHS or request.path.startswith(_OPEN_PREFIXES):
        return None
    if current_user.is_authenticated:
        return None
    if request.path.startswith("/_dash-") or request.method != "GET":
        refusal = jsonify(error="log in first")
        refusal.status_code = 401
        return refusal
    return redirect(url_for("auth.login", next=request.full_path.rstrip("?")))


def _harden(response: Response) -> Response:
    response.headers.setdefault("Content-Security-Policy", _CONTENT_SECURITY_POLICY)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "same-origin")
    if request.is_secure:
        response.headers.setdefault("Strict-Transport-Security", "max-age=31536000")
    if not request.path.startswith(_STATIC_PREFIXES):
        response.headers["Cache-Control"] = "no-store"
    return response
