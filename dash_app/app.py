"""Put the dashboard together."""

from __future__ import annotations

from dash import Dash
from flask import Flask, Response, abort, request
from flask_login import current_user
from flask_wtf.csrf import generate_csrf
from werkzeug.middleware.proxy_fix import ProxyFix

from dash_app.components import shell
from dash_app.components.shell import Page
from dash_app.pages import account, admin, forecasts, models, overview, tokens
from dash_app.security import auth, callbacks, guard, problems, sessions
from make_us_rich.accounts import Accounts
from make_us_rich.client import Client
from make_us_rich.core.settings import Settings

LARGEST_BODY = 1024 * 1024
"""Bytes of a request's body. Calls of callbacks and forms need far less."""
_CSRF_COOKIE = "_csrf_token"
_PAGES = (
    Page("/", "Forecasts", forecasts.layout),
    Page("/overview", "Overview", overview.layout),
    Page("/models", "Models", models.layout),
    Page("/api-tokens", "API", tokens.layout),
    Page("/admin", "Admin", admin.layout, for_admins=True),
    Page("/account", "Account", account.layout, in_menu=False),
)

# Dash's own, and the language that screen readers read it in
_INDEX = """<!DOCTYPE html>
<html lang="en">
<head>
{%metas%}
<title>{%title%}</title>
<link rel="icon" href="/assets/favicon.svg">
{%css%}
</head>
<body>
{%app_entry%}
<footer>{%config%}{%scripts%}{%renderer%}</footer>
</body>
</html>"""


def create_app(settings: Settings) -> Dash:
    accounts = Accounts(settings.database_url.get_secret_value())
    app = Dash(
        __name__,
        server=_server(settings, accounts),
        title="Make Us Rich",
        update_title=None,
        index_string=_INDEX,
        meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
        suppress_callback_exceptions=True,  # a page's components exist only while it is shown
        csrf_token_name=_CSRF_COOKIE,
        csrf_header_name="X-CSRFToken",
    )
    client = Client(settings.api_url, settings.dashboard_token.get_secret_value())
    app.layout = lambda: shell.layout(_PAGES)
    shell.register(app, _PAGES)
    database_url = settings.database_url.get_secret_value()
    forecasts.register(app, client, database_url)
    overview.register(app, client, database_url)
    models.register(app, settings, accounts, client)
    tokens.register(app, accounts, settings.public_api_url or settings.api_url, database_url)
    admin.register(app, settings, accounts)
    account.register(app, accounts)
    callbacks.install(app.server, app)
    return app


def _server(settings: Settings, accounts: Accounts) -> Flask:
    server = Flask(__name__)
    server.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    server.config["TRUSTED_PROXIES"] = hops = settings.trusted_proxies
    if hops:
        server.wsgi_app = ProxyFix(server.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    secure = settings.environment == "production"
    problems.install(server)
    guard.install(server)  # before the CSRF check: a stranger is told to log in, not that a token is missing
    sessions.install(server, accounts, secure=secure)
    auth.install(server, accounts, secret_key=settings.secret_key.get_secret_value())
    _refuse_pages(server)
    _hand_out_csrf_tokens(server, secure=secure)
    return server


def _refuse_pages(server: Flask) -> None:
    """Dash itself answers every address with the same page; one that leads nowhere must say so."""
    by_path = {page.path: page for page in _PAGES}

    @server.before_request
    def refuse() -> None:
        if request.endpoint != "/<path:path>":
            return
        page = by_path.get(request.path)
        if page is None:
            abort(404)
        if page.for_admins and not current_user.is_admin:
            abort(403, "This page is for admins.")


def _hand_out_csrf_tokens(server: Flask, *, secure: bool) -> None:
    """Dash's own script reads the token from a cookie and sends it back as a header with each callback."""

    @server.after_request
    def set_cookie(response: Response) -> Response:
        is_page = response.status_code == 200 and response.mimetype == "text/html"
        if is_page and current_user.is_authenticated:
            response.set_cookie(_CSRF_COOKIE, generate_csrf(), samesite="Lax", secure=secure)
        return response
