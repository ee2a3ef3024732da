"""Log in, create an account, set a password by a link, log out: plain forms, so that they work before any script."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Blueprint, Flask, flash, redirect, render_template, request
from flask_wtf import CSRFProtect, FlaskForm
from werkzeug.wrappers import Response
from wtforms import BooleanField, PasswordField, StringField

from dash_app.security import devices, limits, sessions
from make_us_rich.accounts import Accounts, User
from make_us_rich.core.errors import InputError, MakeUsRichError, NameTaken, WrongCredentials


class LoginForm(FlaskForm):
    name = StringField("Name")
    password = PasswordField("Password")
    remember = BooleanField("Stay logged in for ten days")


class RegisterForm(FlaskForm):
    name = StringField("Name")
    password = PasswordField("Password")


class PasswordForm(FlaskForm):
    password = PasswordField("New password")


def install(server: Flask, accounts: Accounts, *, secret_key: str) -> None:
    server.config.update(SECRET_KEY=secret_key, WTF_CSRF_TIME_LIMIT=None)
    server.register_blueprint(_routes(accounts))
    CSRFProtect(server)


def _routes(accounts: Accounts) -> Blueprint:
    auth = Blueprint("auth", __name__, template_folder="../templates")

    @auth.route("/login", methods=["GET", "POST"])
    def login() -> str | Response:
        form = LoginForm()
        if form.validate_on_submit():
            name = form.name.data or ""
            tries = limits.log_in(name)
            accounts.consume_attempt(*tries)
            try:
                user = accounts.authenticate(name, form.password.data or "", origin=limits.origin())
            except WrongCredentials as error:
                flash(as_sentence(error))
            else:
                accounts.refund(*tries)
                return _welcome(accounts, user, remember=bool(form.remember.data))
        return _form("login", form)

    @auth.route("/register", methods=["GET", "POST"])
    def register() -> str | Response:
        form = RegisterForm()
        if form.validate_on_submit():
            limit = limits.new_account()
            accounts.consume_attempt(limit)
            try:
                user = accounts.create_user(form.name.data or "", form.password.data or "", origin=limits.origin())
            except (InputError, NameTaken) as error:
                if isinstance(error, InputError):  # tells nothing of others: may be tried as often as it takes
                    accounts.refund(limit)
                flash(as_sentence(error))
            else:
                return _welcome(accounts, user, remember=False)
        return _form("register", form)

    @auth.route("/set-password/<secret>", methods=["GET", "POST"])
    def set_password(secret: str) -> str | Response:
        limit = limits.link()
        accounts.consume_attempt(limit)
        owner = accounts.link_owner(secret)
        accounts.refund(limit)
        form = PasswordForm()
        if form.validate_on_submit():
            try:
                user = accounts.use_link(secret, form.password.data or "")
            except InputError as error:
                flash(as_sentence(error))
            else:
                return _welcome(accounts, user, remember=False)
        return _form(f"set-password/{secret}", form, owner=owner.name)

    @auth.post("/logout")
    def logout() -> Response:
        sessions.end(accounts)
        return redirect("/login")

    @auth.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    return auth


def _form(page: str, form: FlaskForm, **more: str) -> str:
    return render_template("account.html", form=form, page=page, next=request.args.get("next", ""), **more)


def _welcome(accounts: Accounts, user: User, *, remember: bool) -> Response:
    sessions.end(accounts)  # nothing of the session before lives on
    sessions.begin(user, remember=remember)
    answer = redirect(safe_next(request.args.get("next", "")))
    devices.remember(answer, user.name)
    return answer


def as_sentence(error: MakeUsRichError) -> str:
    message = str(error)
    return f"{message[0].upper()}{message[1:]}."


def safe_next(target: str) -> str:
    """A page of this site; anything that could lead elsewhere, or is no page, becomes the front page."""
    try:
        parts = urlsplit(target)
    except ValueError:  # such as an unfinished IPv6 address
        return "/"
    is_ours = not parts.scheme and not parts.netloc and target.startswith("/") and not target.startswith("//")
    is_page = target.isprintable() and "\\" not in target and not parts.path.startswith(("/_dash-", "/logout"))
    return target if is_ours and is_page else "/"
