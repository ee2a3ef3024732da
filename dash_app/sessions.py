"""Who is logged in, for Flask-Login: a cookie that ends after ten days, and earlier when the account says so."""

from __future__ import annotations

import time
from datetime import timedelta

from flask import Flask
from flask_login import LoginManager, UserMixin, login_user

from make_us_rich.accounts import Accounts, User
from make_us_rich.errors import WrongCredentials

LIFETIME = timedelta(days=10)


class Member(UserMixin):
    """An account in one session. The id that the cookie carries names the session's version and its beginning."""

    def __init__(self, user: User, began_s: int | None = None) -> None:
        self.user_id = user.user_id
        self.name = user.name
        self.is_admin = user.is_admin
        began_s = int(time.time()) if began_s is None else began_s
        self.id = f"{user.user_id}.{user.session_version}.{began_s}"


def install(server: Flask, accounts: Accounts, *, secure: bool) -> None:
    server.config.update(
        PERMANENT_SESSION_LIFETIME=LIFETIME,
        REMEMBER_COOKIE_DURATION=LIFETIME,
        REMEMBER_COOKIE_HTTPONLY=True,
        REMEMBER_COOKIE_SAMESITE="Lax",
        REMEMBER_COOKIE_SECURE=secure,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=secure,
    )
    # without its context processor, which asks the database again while a page says that the database is down
    manager = LoginManager(server, add_context_processor=False)
    manager.session_protection = "basic"

    @manager.user_loader
    def load(cookie_id: str) -> Member | None:
        try:
            user_id, version, began_s = (int(part) for part in cookie_id.split("."))
            user = accounts.user(user_id)
        except (ValueError, WrongCredentials):
            return None
        is_over = version != user.session_version or time.time() - began_s > LIFETIME.total_seconds()
        return None if is_over else Member(user, began_s)


def begin(user: User, *, remember: bool) -> None:
    login_user(Member(user), remember=remember)
