"""Browsers that have logged in to an account before, known by a signed cookie that opens nothing by itself.

Source: https://owasp.org/www-community/Slow_Down_Online_Guessing_Attacks_with_Device_Cookies
"""

from __future__ import annotations

import secrets
from datetime import timedelta

from flask import current_app, request
from itsdangerous import BadSignature, URLSafeTimedSerializer
from werkzeug.wrappers import Response

from make_us_rich.accounts import fold

COOKIE = "known_browser"
_LIFETIME = timedelta(days=180)
_PATH = "/login"


def known(name: str) -> str:
    """This browser's key, if it has logged in as `name` before; empty otherwise."""
    try:
        who, key = _signer().loads(request.cookies.get(COOKIE, ""), max_age=int(_LIFETIME.total_seconds()))
    except (BadSignature, ValueError, TypeError):
        return ""
    return str(key) if who == fold(name) else ""


def remember(response: Response, name: str) -> None:
    """Let the browser be known for this account from now on."""
    response.set_cookie(
        COOKIE,
        _signer().dumps([fold(name), known(name) or secrets.token_hex(8)]),
        max_age=_LIFETIME,
        path=_PATH,
        secure=current_app.config["SESSION_COOKIE_SECURE"],
        httponly=True,
        samesite="Lax",
    )


def _signer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(current_app.config["SECRET_KEY"], salt="known browser")
