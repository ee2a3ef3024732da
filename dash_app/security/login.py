"""Log-in, registration, password links and log-out, as plain HTML forms that need no script."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Blueprint, Flask, flash, redirect, render_template, request
from flask_wtf import CSRFProtect, FlaskForm
from werkzeug.wrappers import Response
from wtforms import BooleanField, PasswordField, StringField

from dash_app.components.formatting import as_sentence
from dash_app.security import sessions, throttling
from make_us_rich.accounts import Accounts, User
from make_us_rich.core.errors import InputError, NameTaken, WrongCredentials


class LoginForm(FlaskForm):  # type: ignore[misc]  # flask-wtf has no types
    name = StringField("Name")
    password = PasswordField("Password")
    remember = BooleanField("Stay logged in for ten days")


class RegisterForm(FlaskForm):  # type: ignore[misc]
    name = StringField("Name")
    password = PasswordField("Password")


class PasswordForm(FlaskForm):  # type: ignore[misc]
    password = PasswordField("New password")


def install(server: Flask, accounts: Accounts, *, secret_key: str) -> None:
    """Add the routes of the forms, and CSRF protection to every route."""
    server.config.update(SECRET_KEY=secret_key, WTF_CSRF_TIME_LIMIT=None)
    server.register_blueprint(_routes(accounts))
    CSRFProtect(server)


def _routes(accounts: Accounts) -> Blueprint:
    routes = Blueprint("login", __name__, template_folder="../templates")

    @routes.route("/login", methods=["GET", "POST"])
    def login() -> str | Response:
        form = LoginForm()
        if form.validate_on_submit():
            name = form.name.data or ""
            limits = throttling.login_limits(name)
            accounts.throttle.consume_attempt(*limits)
            try:
                user = accounts.users.authenticate(name, form.password.data or "", origin=throttling.client_address())
            except WrongCredentials as error:
                flash(as_sentence(error))
            else:
                accounts.throttle.refund(*limits)
                return _start_session(accounts, user, remember=bool(form.remember.data))
        return _render("login", form)

    @routes.route("/register", methods=["GET", "POST"])
    def register() -> str | Response:
        form = RegisterForm()
        if form.validate_on_submit():
            limit = throttling.registration_limit()
            accounts.throttle.consume_attempt(limit)
            try:
                user = accounts.users.create(
                    form.name.data or "", form.password.data or "", origin=throttling.client_address()
                )
            except (InputError, NameTaken) as error:
                if isinstance(error, InputError):  # reveals nothing about other accounts, so it does not count
                    accounts.throttle.refund(limit)
                flash(as_sentence(error))
            else:
                return _start_session(accounts, user, remember=False)
        return _render("register", form)

    @routes.route("/set-password/<secret>", methods=["GET", "POST"])
    def set_password(secret: str) -> str | Response:
        limit = throttling.link_limit()
        accounts.throttle.consume_attempt(limit)
        owner = accounts.links.owner(secret)
        accounts.throttle.refund(limit)
        form = PasswordForm()
        if form.validate_on_submit():
            try:
                user = accounts.links.use(secret, form.password.data or "")
            except InputError as error:
                flash(as_sentence(error))
            else:
                return _start_session(accounts, user, remember=False)
        return _render(f"set-password/{secret}", form, owner=owner.name)

    @routes.post("/logout")
    def logout() -> Response:
        sessions.end(accounts)
        return redirect("/login")

    @routes.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    return routes


def _render(page: str, form: FlaskForm, owner: str = "") -> str:
    return render_template("account.html", form=form, page=page, next=request.args.get("next", ""), owner=owner)


def _start_session(accounts: Accounts, user: User, *, remember: bool) -> Response:
    sessions.end(accounts)  # a session of another account may be open in this browser
    sessions.start(user, remember=remember)
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
