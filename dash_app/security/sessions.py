"""Who is logged in, for Flask-Login: a cookie that ends after ten days, and earlier when the account says so."""

from __future__ import annotations

import secrets
import time
from datetime import timedelta

from flask import Flask, session
from flask_login import LoginManager, UserMixin, current_user, login_user, logout_user

from make_us_rich.accounts import Accounts, User
from make_us_rich.core.errors import WrongCredentials

LIFETIME = timedelta(days=10)


class Member(UserMixin):
    """An account in one session. Both cookies carry `id`: user, session version, beginning, and the session's key."""

    def __init__(self, user: User, began_s: int | None = None, key: str | None = None) -> None:
        self.user_id = user.user_id
        self.name = user.name
        self.is_admin = user.is_admin
        began_s = int(time.time()) if began_s is None else began_s
        self.session_key = key or secrets.token_hex(8)
        self.id = f"{user.user_id}.{user.session_version}.{began_s}.{self.session_key}"


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
            *numbers, key = cookie_id.split(".")
            user_id, version, began_s = (int(part) for part in numbers)
            user = accounts.session_user(user_id, key)
        except (ValueError, WrongCredentials):
            return None
        is_over = version != user.session_version or time.time() - began_s > LIFETIME.total_seconds()
        return None if is_over else Member(user, began_s, key)


def begin(user: User, *, remember: bool) -> None:
    login_user(Member(user), remember=remember)


def end(accounts: Accounts) -> None:
    """Log out of this session. Copies of its cookies do not work any more; other sessions go on."""
    if current_user.is_authenticated:
        accounts.end_session(current_user.user_id, current_user.session_key, LIFETIME)
    session.clear()
    logout_user()  # after clear(), which would forget that the remember cookie is to be deleted
