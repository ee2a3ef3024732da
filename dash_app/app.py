"""Create the dashboard: a Flask server with the security rules and error pages, and Dash with the pages."""

from __future__ import annotations

import math
from pathlib import Path

from dash import Dash
from dash.exceptions import DependencyException
from flask import Flask, jsonify, render_template, request
from flask_compress import Compress
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.wrappers import Response

from dash_app import shell
from dash_app.callbacks import Callbacks
from dash_app.pages import Services, account, admin, forecasts, models, overview, tokens
from dash_app.public.routes import PUBLIC_PATHS, PublicPages
from dash_app.records import ForecastRecords
from dash_app.security import access, login, validation
from dash_app.security.callback_limit import CallbackLimit
from make_us_rich.accounts import Accounts
from make_us_rich.client import Client
from make_us_rich.core.errors import BadLink, TooManyAttempts
from make_us_rich.core.settings import Settings
from make_us_rich.database.pool import POSTGRES_UNAVAILABLE, STATEMENT_ENDED, Database

MAX_BODY = 1024 * 1024
"""Bytes of a request's body. Callbacks and forms need far less."""
_DATABASE_RETRY_S = 5
_CHART_SCRIPT = "plotly-finance.min.js"
_PAGES = (forecasts.PAGE, overview.PAGE, models.PAGE, tokens.PAGE, admin.PAGE, account.PAGE)

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
    records = ForecastRecords(settings, accounts.database)
    server = _create_server(settings, accounts, records)
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
    services = Services(settings, accounts, client, records, {page.path: page for page in _PAGES})
    server.extensions["services"] = services  # whoever ends the dashboard but not the process closes them
    app.layout = lambda: shell.layout(_PAGES)
    Callbacks(shell.callbacks, *(page.callbacks for page in _PAGES)).install(app)
    validation.install(server, app)
    CallbackLimit().install(server)
    return app


def _create_server(settings: Settings, accounts: Accounts, records: ForecastRecords) -> Flask:
    server = Flask(__name__)
    server.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    server.config["TRUSTED_PROXIES"] = hops = settings.trusted_proxies
    if hops:
        server.wsgi_app = ProxyFix(server.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    secure = settings.environment == "production"
    _install_compression(server)
    _install_chart_script(server)
    _install_error_pages(server)
    # before the CSRF check of the log-in, so that the answer without a session is "log in first"
    public = PublicPages(settings, records)
    is_public = settings.public_pages
    access.install(
        server,
        {page.path: page.for_admins for page in _PAGES},
        secure=secure,
        public_paths=PUBLIC_PATHS if is_public else (),
        landing=public.landing if is_public else None,
    )
    public.install(server)
    login.install(server, accounts, secret_key=settings.needed("secret_key"), secure=secure)
    return server


def _install_compression(server: Flask) -> None:
    """Compress scripts, styles and data. Not pages: the length of a compressed page could betray its CSRF token."""
    server.config["COMPRESS_MIMETYPES"] = ["text/css", "text/javascript", "application/javascript", "application/json"]
    server.config["COMPRESS_ALGORITHM"] = ["br", "gzip"]
    server.config["COMPRESS_BR_LEVEL"] = 9  # 5 % less than level 5, and 0.07 s instead of 0.02 s for 1 MB
    Compress(server)

    @server.after_request
    def let_browsers_keep_scripts(response: Response) -> Response:
        """Dash names most scripts by version, and the browser keeps those for ever; the others it asks about."""
        if request.path.startswith("/_dash-component-suites/") and "Cache-Control" not in response.headers:
            response.add_etag()
            response.headers["Cache-Control"] = "no-cache"
        return response


def _install_chart_script(server: Flask) -> None:
    """Answer Dash's request for Plotly with the bundle of the chart types for prices: 0.4 MB instead of 1.3 MB.

    `make install` and the Dockerfile put it there with npm. Without it, Dash serves the whole Plotly.
    """
    if not (Path(str(server.static_folder)) / _CHART_SCRIPT).is_file():
        return

    @server.get("/_dash-component-suites/plotly/package_data/plotly.min.js")
    def chart_script() -> Response:
        if not request.accept_encodings["br"]:
            return server.send_static_file(_CHART_SCRIPT)
        response = server.send_static_file(f"{_CHART_SCRIPT}.br")
        response.headers.update({"Content-Type": "text/javascript", "Content-Encoding": "br"})
        response.vary.add("Accept-Encoding")
        return response


def _install_error_pages(server: Flask) -> None:
    """Answer an error with a page for a person, and with JSON for a request of Dash's script."""

    @server.errorhandler(CSRFError)
    def csrf_failed(_: CSRFError) -> Response:
        return _respond(400, "This page has expired", "Reload it and try again.")

    @server.errorhandler(BadLink)
    def bad_link(_: BadLink) -> Response:
        return _respond(410, "This link is no longer valid", "It was used or has expired. Ask an admin for a new one.")

    @server.errorhandler(TooManyAttempts)
    def too_many_attempts(error: TooManyAttempts) -> Response:
        minutes = math.ceil(error.retry_after_s / 60)
        text = (
            f"Wait {minutes} minute{'s' if minutes > 1 else ''}, then try again. "
            "A browser that has logged in to the account before is not affected."
        )
        return _respond(429, "Too many attempts", text, retry_after_s=math.ceil(error.retry_after_s))

    def database_down(error: Exception) -> Response:
        server.logger.error("Postgres does not answer: %s", error)
        is_read = request.method == "GET"
        text = "No data is lost. " + ("This page retries automatically." if is_read else "Try again in a minute.")
        title = "The database is busy" if isinstance(error, STATEMENT_ENDED) else "The database does not answer"
        return _respond(503, title, text, retry_after_s=_DATABASE_RETRY_S)

    for kind in POSTGRES_UNAVAILABLE:
        server.register_error_handler(kind, database_down)

    @server.errorhandler(DependencyException)
    def unknown_script(_: DependencyException) -> Response:
        return http_error(NotFound())

    @server.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        code = error.code or 500
        if code == 404:
            return _respond(404, "Page not found", "Check the address.")
        if code >= 500:
            return _respond(code, "Internal error", "The error was logged. Try again later.")
        retry_after = getattr(error, "retry_after", None)
        return _respond(code, error.name, error.description or "", retry_after_s=retry_after)


def _respond(status: int, title: str, text: str, *, retry_after_s: int | None = None) -> Response:
    if request.path.startswith("/_dash-"):
        response: Response = jsonify(error=title)
        response.status_code = status
    else:
        reload_s = retry_after_s if status == 503 and request.method == "GET" else None
        page = render_template("error.html", status=status, title=title, text=text, reload_s=reload_s)
        response = Response(page, status, mimetype="text/html")
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(retry_after_s)
    return response
