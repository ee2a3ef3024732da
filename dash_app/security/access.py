"""Access rules: who may read which route, and the security headers of every response."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

from flask import Flask, Response, abort, jsonify, redirect, request, url_for
from flask_login import current_user
from flask_wtf.csrf import generate_csrf
from werkzeug.wrappers import Response as BaseResponse

CSRF_COOKIE = "_csrf_token"
# Scripts and styles are public: they hold no data, and the log-in pages need the styles.
_STATIC_PREFIXES = ("/assets/", "/_dash-component-suites/", "/static/")
_PUBLIC_PREFIXES = (*_STATIC_PREFIXES, "/set-password/")
_PUBLIC_PATHS = frozenset({"/login", "/register", "/logout", "/healthz", "/_favicon.ico"})

# Dash renders inline scripts and styles, so both must stay allowed. Every other host is blocked.
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


def install(
    server: Flask,
    pages: Mapping[str, bool],
    *,
    secure: bool,
    public_paths: Sequence[str] = (),
    landing: Callable[[], BaseResponse] | None = None,
) -> None:
    """Require a log-in on every route that is not public, check each page, and set headers and the CSRF cookie.

    `pages` maps each path to whether it is for admins only. `secure`: send the cookie over HTTPS only. Dash's script
    sends the CSRF token of the cookie back as a header of each callback request. `public_paths`: further paths that
    need no log-in, with those below them. `landing`: what a visitor who is not logged in sees at /, or None to send
    them to the log-in.
    """
    server.before_request(lambda: _require_login(public_paths, landing))
    server.after_request(_set_security_headers)

    @server.before_request
    def check_page() -> None:
        if request.endpoint != "/<path:path>":  # Dash answers every path with the same page and 200
            return
        if request.path not in pages:
            abort(404)
        if pages[request.path] and not current_user.is_admin:
            abort(403, "This page is for admins.")

    @server.after_request
    def set_csrf_cookie(response: Response) -> Response:
        is_page = response.status_code == 200 and response.mimetype == "text/html"
        if is_page and current_user.is_authenticated:
            response.set_cookie(CSRF_COOKIE, generate_csrf(), samesite="Lax", secure=secure)
        return response


def admins_only(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Answer 403 without running the callback unless the user is an admin. `dash_app.callbacks` places it."""

    @wraps(callback)
    def guarded(*arguments: Any) -> Any:
        if not current_user.is_admin:
            abort(403, "This is for admins.")
        return callback(*arguments)

    return guarded


def _require_login(public_paths: Sequence[str], landing: Callable[[], BaseResponse] | None) -> BaseResponse | None:
    if request.path in _PUBLIC_PATHS or request.path.startswith(_PUBLIC_PREFIXES) or current_user.is_authenticated:
        return None
    if request.method in ("GET", "HEAD"):
        if landing is not None and request.path == "/":
            return landing()
        if any(f"{request.path}/".startswith(f"{path}/") for path in public_paths):
            return None
    if request.path.startswith("/_dash-") or request.method != "GET":
        response = jsonify(error="log in first")
        response.status_code = 401
        return response
    return redirect(url_for("login.login", next=request.full_path.rstrip("?")))


def _set_security_headers(response: Response) -> Response:
    response.headers.setdefault("Content-Security-Policy", _CONTENT_SECURITY_POLICY)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "same-origin")
    if request.is_secure:
        response.headers.setdefault("Strict-Transport-Security", "max-age=31536000")
    if not request.path.startswith(_STATIC_PREFIXES):
        response.headers["Cache-Control"] = "no-store"
    return response
