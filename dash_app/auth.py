"""Log in, create an account, log out: plain forms, so that they work before any script has loaded."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import urlsplit

from flask import Blueprint, Flask, flash, redirect, render_template, request, session
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_login import LoginManager, UserMixin, login_user, logout_user
from flask_wtf import CSRFProtect, FlaskForm
from werkzeug.wrappers import Response
from wtforms import BooleanField, PasswordField, StringField

from make_us_rich.accounts import Accounts, User
from make_us_rich.errors import InputError, NameTaken, WrongCredentials
from make_us_rich.settings import Settings

_SESSION = timedelta(days=10)
_TRIES = "20 per minute; 200 per hour"


class Member(UserMixin):
    """An account as Flask-Login wants it."""

    def __init__(self, user: User) -> None:
        self.id = str(user.user_id)
        self.user_id = user.user_id
        self.name = user.name
        self.is_admin = user.is_admin


class LoginForm(FlaskForm):
    name = StringField("Name")
    password = PasswordField("Password")
    remember = BooleanField("Stay logged in for ten days")


class RegisterForm(FlaskForm):
    name = StringField("Name")
    password = PasswordField("Password")


def install(server: Flask, settings: Settings, accounts: Accounts) -> CSRFProtect:
    server.config.update(
        SECRET_KEY=settings.secret_key.get_secret_value(),
        REMEMBER_COOKIE_DURATION=_SESSION,
        REMEMBER_COOKIE_HTTPONLY=True,
        REMEMBER_COOKIE_SAMESITE="Lax",
        REMEMBER_COOKIE_SECURE=settings.environment == "production",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=settings.environment == "production",
        WTF_CSRF_TIME_LIMIT=None,
    )
    manager = LoginManager(server)
    manager.session_protection = "basic"

    @manager.user_loader
    def load(user_id: str) -> Member | None:
        try:
            return Member(accounts.user(int(user_id)))
        except (ValueError, WrongCredentials):
            return None

    limiter = Limiter(get_remote_address, app=server, storage_uri="memory://")
    server.register_blueprint(_routes(accounts, limiter))
    return CSRFProtect(server)


def _routes(accounts: Accounts, limiter: Limiter) -> Blueprint:
    auth = Blueprint("auth", __name__, template_folder="templates")

    @auth.route("/login", methods=["GET", "POST"])
    @limiter.limit(_TRIES, methods=["POST"])
    def login() -> str | Response:
        form = LoginForm()
        if form.validate_on_submit():
            try:
                user = accounts.authenticate(form.name.data or "", form.password.data or "")
            except WrongCredentials as error:
                flash(f"{str(error)[0].upper()}{str(error)[1:]}.")
            else:
                return _welcome(user, remember=bool(form.remember.data))
        return render_template("account.html", form=form, page="login", next=request.args.get("next", ""))

    @auth.route("/register", methods=["GET", "POST"])
    @limiter.limit(_TRIES, methods=["POST"])
    def register() -> str | Response:
        form = RegisterForm()
        if form.validate_on_submit():
            try:
                user = accounts.create_user(form.name.data or "", form.password.data or "")
            except (InputError, NameTaken) as error:
                flash(f"{str(error)[0].upper()}{str(error)[1:]}.")
            else:
                return _welcome(user, remember=False)
        return render_template("account.html", form=form, page="register", next=request.args.get("next", ""))

    @auth.post("/logout")
    def logout() -> Response:
        logout_user()
        session.clear()
        return redirect("/login")

    @auth.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    return auth


def _welcome(user: User, *, remember: bool) -> Response:
    session.clear()  # nothing of the stranger's session lives on
    login_user(Member(user), remember=remember)
    return redirect(safe_next(request.args.get("next", "")))


def safe_next(target: str) -> str:
    """A page of this site; anything that could lead elsewhere, or is no page, becomes the front page."""
    try:
        parts = urlsplit(target)
    except ValueError:  # such as an unfinished IPv6 address
        return "/"
    is_ours = not parts.scheme and not parts.netloc and target.startswith("/") and not target.startswith("//")
    is_page = "\\" not in target and not parts.path.startswith(("/_dash-", "/logout"))
    return target if is_ours and is_page else "/"
