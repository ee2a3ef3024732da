"""Create the dashboard: a Flask server with the security rules, and Dash with the pages."""

from __future__ import annotations

from dash import Dash
from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from dash_app import shell
from dash_app.pages import Page, Services, account, admin, forecasts, models, overview, tokens
from dash_app.security import access, error_pages, login, sessions, validation
from make_us_rich.accounts import Accounts
from make_us_rich.client import Client
from make_us_rich.core.settings import Settings
from make_us_rich.database.pool import Database

MAX_BODY = 1024 * 1024
"""Bytes of a request's body. Callbacks and forms need far less."""
_PAGES = (
    Page("/", "Forecasts", forecasts.layout, forecasts.register),
    Page("/overview", "Overview", overview.layout, overview.register),
    Page("/models", "Models", models.layout, models.register),
    Page("/api-tokens", "API", tokens.layout, tokens.register),
    Page("/admin", "Admin", admin.layout, admin.register, for_admins=True),
    Page("/account", "Account", account.layout, account.register, in_menu=False),
)

# Dash's own template plus `lang`, which screen readers need.
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
    """Return the dashboard. Connects to nothing before the first request."""
    accounts = Accounts(Database.from_settings(settings))
    server = _create_server(settings, accounts)
    app = Dash(
        __name__,
        server=server,  # type: ignore[arg-type]  # Dash takes a Flask server; its annotation says bool
        title="Make Us Rich",
        update_title="",
        index_string=_INDEX,
        meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
        suppress_callback_exceptions=True,  # a page's components exist only while it is shown
        csrf_token_name=access.CSRF_COOKIE,
        csrf_header_name="X-CSRFToken",
    )
    client = Client(settings.api_url, settings.dashboard_token.get_secret_value())
    services = Services(settings, accounts, client)
    app.layout = lambda: shell.layout(_PAGES)
    shell.register(app, _PAGES)
    for page in _PAGES:
        page.register(app, services)
    validation.install(server, app)
    return app


def _create_server(settings: Settings, accounts: Accounts) -> Flask:
    server = Flask(__name__)
    server.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    server.config["TRUSTED_PROXIES"] = hops = settings.trusted_proxies
    if hops:
        server.wsgi_app = ProxyFix(server.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    secure = settings.environment == "production"
    error_pages.install(server)
    access.install(server)  # before the CSRF check, so that the answer without a session is "log in first"
    sessions.install(server, accounts, secure=secure)
    login.install(server, accounts, secret_key=settings.secret_key.get_secret_value())
    access.install_page_rules(server, {page.path: page.for_admins for page in _PAGES})
    access.install_csrf_cookie(server, secure=secure)
    return server
