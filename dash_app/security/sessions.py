"""Sessions for Flask-Login: a cookie that ends after ten days, or earlier when the account's sessions are ended."""

from __future__ import annotations

import secrets
import time
from datetime import timedelta

from flask import Flask, session
from flask_login import LoginManager, UserMixin, current_user, login_user, logout_user

from make_us_rich.accounts import Accounts, User
from make_us_rich.core.errors import WrongCredentials

LIFETIME = timedelta(days=10)


class SessionUser(UserMixin):  # type: ignore[misc]  # flask-login has no types
    """A user in one session. `id`, stored in both cookies, is user id, session version, start and session key."""

    def __init__(self, user: User, started_s: int | None = None, key: str | None = None) -> None:
        self.user_id = user.user_id
        self.name = user.name
        self.is_admin = user.is_admin
        started_s = int(time.time()) if started_s is None else started_s
        self.session_key = key or secrets.token_hex(8)
        self.id = f"{user.user_id}.{user.session_version}.{started_s}.{self.session_key}"


def install(server: Flask, accounts: Accounts, *, secure: bool) -> None:
    """Load the user of each request from its cookie. `secure`: send cookies over HTTPS only."""
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
    # The context processor would query the database again while the error page reports that the database is down.
    manager = LoginManager(server, add_context_processor=False)
    manager.session_protection = "basic"

    def load(cookie_id: str) -> SessionUser | None:
        try:
            *numbers, key = cookie_id.split(".")
            user_id, version, started_s = (int(part) for part in numbers)
            user = accounts.sessions.user(user_id, key)
        except (ValueError, WrongCredentials):
            return None
        is_over = version != user.session_version or time.time() - started_s > LIFETIME.total_seconds()
        return None if is_over else SessionUser(user, started_s, key)

    manager.user_loader(load)


def start(user: User, *, remember: bool) -> None:
    """Start a session. `remember`: it survives a restart of the browser."""
    login_user(SessionUser(user), remember=remember)


def end(accounts: Accounts) -> None:
    """End this session on the server, so that copies of its cookies stop working. Other sessions continue."""
    if current_user.is_authenticated:
        accounts.sessions.end(current_user.user_id, current_user.session_key, LIFETIME)
    session.clear()
    logout_user()  # must follow clear(), which would drop the order to delete the remember cookie
