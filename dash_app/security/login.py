"""Log-in, registration, password links and log-out, as plain HTML forms that need no script; and the sessions.

A session is a cookie that ends after ten days, or earlier when the account's sessions are ended.
"""

from __future__ import annotations

import secrets
import time
from urllib.parse import urlsplit

from flask import Blueprint, Flask, current_app, flash, redirect, render_template, request, session
from flask_login import LoginManager, UserMixin, current_user, login_user, logout_user
from flask_wtf import CSRFProtect, FlaskForm
from werkzeug.wrappers import Response
from wtforms import BooleanField, PasswordField, StringField

from dash_app.components.formatting import as_sentence
from dash_app.security import throttling
from dash_app.security.devices import device_name
from make_us_rich.accounts import Accounts, SessionCookie, User
from make_us_rich.accounts.sessions import LIFETIME
from make_us_rich.core.errors import InputError, NameTaken, WrongCredentials

routes = Blueprint("login", __name__, template_folder="../templates")


class RegisterForm(FlaskForm):  # type: ignore[misc]  # flask-wtf has no types
    name = StringField("Name")
    password = PasswordField("Password")


class LoginForm(RegisterForm):
    remember = BooleanField("Stay logged in for ten days")


class PasswordForm(FlaskForm):  # type: ignore[misc]
    password = PasswordField("New password")


class SessionUser(UserMixin):  # type: ignore[misc]  # flask-login has no types
    """A user in one session. `id`, stored in both cookies, is user id, session version, start and session key."""

    def __init__(self, user: User, started_s: int, key: str) -> None:
        self.user_id = user.user_id
        self.name = user.name
        self.is_admin = user.is_admin
        self.session_key = key
        self.started_s = started_s
        self.id = f"{user.user_id}.{user.session_version}.{started_s}.{key}"


def install(server: Flask, accounts: Accounts, *, secret_key: str, secure: bool) -> None:
    """Add the sessions, the routes of the forms, and CSRF protection to every route.

    `secure`: send cookies over HTTPS only.
    """
    server.config.update(
        SECRET_KEY=secret_key,
        WTF_CSRF_TIME_LIMIT=None,
        PERMANENT_SESSION_LIFETIME=LIFETIME,
        REMEMBER_COOKIE_DURATION=LIFETIME,
        REMEMBER_COOKIE_HTTPONLY=True,
        REMEMBER_COOKIE_SAMESITE="Lax",
        REMEMBER_COOKIE_SECURE=secure,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=secure,
    )
    _install_sessions(server, accounts)
    server.extensions["accounts"] = accounts
    server.register_blueprint(routes)
    CSRFProtect(server)


def _install_sessions(server: Flask, accounts: Accounts) -> None:
    """Load the user of each request from its cookie."""
    # The context processor would query the database again while the error page reports that the database is down.
    manager = LoginManager(server, add_context_processor=False)
    manager.session_protection = "basic"

    def load(cookie_id: str) -> SessionUser | None:
        try:
            *numbers, key = cookie_id.split(".")
            user_id, version, started_s = (int(part) for part in numbers)
            cookie = SessionCookie(user_id, version, started_s, key)
            return SessionUser(accounts.sessions.resume(cookie, device_name(request.user_agent.string)), started_s, key)
        except (ValueError, WrongCredentials):
            return None

    manager.user_loader(load)


def start_session(user: User, *, remember: bool) -> None:
    """Start a session. `remember`: it survives a restart of the browser."""
    login_user(SessionUser(user, int(time.time()), secrets.token_hex(8)), remember=remember)


def end_other_sessions(accounts: Accounts) -> None:
    """End every other session of this user, copies of this one's cookies too. This session gets new cookies."""
    accounts.users.log_out_everywhere(current_user.user_id)
    user = accounts.users.get(current_user.user_id)
    renewed = SessionUser(user, current_user.started_s, current_user.session_key)
    login_user(renewed, remember="remember_token" in request.cookies)


def end_session(accounts: Accounts) -> None:
    """End this session on the server, so that copies of its cookies stop working. Other sessions continue."""
    if current_user.is_authenticated:
        accounts.sessions.end(current_user.user_id, current_user.session_key)
    session.clear()
    logout_user()  # must follow clear(), which would drop the order to delete the remember cookie


@routes.route("/login", methods=["GET", "POST"])
def login() -> str | Response:
    form = LoginForm()
    if form.validate_on_submit():
        name = form.name.data or ""
        password, origin = form.password.data or "", throttling.client_address()
        try:
            with _accounts().throttle.attempt(*throttling.login_limits(name)):
                user = _accounts().users.authenticate(name, password, origin=origin)
        except WrongCredentials as error:
            flash(as_sentence(error))
        else:
            return _log_in(user, remember=bool(form.remember.data))
    return _render("login", form)


@routes.route("/register", methods=["GET", "POST"])
def register() -> str | Response:
    form = RegisterForm()
    if form.validate_on_submit():
        limit = throttling.network_limit("account")
        _accounts().throttle.consume_attempt(limit)
        try:
            user = _accounts().users.create(
                form.name.data or "", form.password.data or "", origin=throttling.client_address()
            )
        except (InputError, NameTaken) as error:
            if isinstance(error, InputError):  # reveals nothing about other accounts, so it does not count
                _accounts().throttle.refund(limit)
            flash(as_sentence(error))
        else:
            _accounts().users.note_login(user.user_id)
            return _log_in(user, remember=False)
    return _render("register", form)


@routes.route("/set-password/<secret>", methods=["GET", "POST"])
def set_password(secret: str) -> str | Response:
    with _accounts().throttle.attempt(throttling.network_limit("link")):
        owner = _accounts().links.owner(secret)
    form = PasswordForm()
    if form.validate_on_submit():
        try:
            user = _accounts().links.use(secret, form.password.data or "")
        except InputError as error:
            flash(as_sentence(error))
        else:
            _accounts().users.note_login(user.user_id)
            return _log_in(user, remember=False)
    return _render(f"set-password/{secret}", form, owner=owner.name)


@routes.post("/logout")
def logout() -> Response:
    end_session(_accounts())
    return redirect("/login")


@routes.get("/healthz")
def healthz() -> dict[str, str]:
    return {"status": "ok"}


def _render(page: str, form: FlaskForm, owner: str = "") -> str:
    return render_template("account.html", form=form, page=page, next=request.args.get("next", ""), owner=owner)


def _accounts() -> Accounts:
    found: Accounts = current_app.extensions["accounts"]
    return found


def _log_in(user: User, *, remember: bool) -> Response:
    end_session(_accounts())  # a session of another account may be open in this browser
    start_session(user, remember=remember)
    response = redirect(safe_next(request.args.get("next", "")))
    throttling.remember_browser(response, user.name)
    return response


def safe_next(target: str) -> str:
    """Return `target` if it is a page of this site, else the front page."""
    try:
        parts = urlsplit(target)
    except ValueError:  # such as an unfinished IPv6 address
        return "/"
    is_local = not parts.scheme and not parts.netloc and target.startswith("/") and not target.startswith("//")
    is_page = target.isprintable() and "\\" not in target and not parts.path.startswith(("/_dash-", "/logout"))
    return target if is_local and is_page else "/"
