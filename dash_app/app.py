"""Put the dashboard together."""

from __future__ import annotations

import dash_mantine_components as dmc
from dash import Dash, Input, Output, dcc, html
from dash.development.base_component import Component
from flask import Flask, Response
from flask_login import current_user
from flask_wtf.csrf import generate_csrf

from dash_app import auth, guard
from dash_app.pages import forecasts, notices, tokens
from make_us_rich.accounts import Accounts
from make_us_rich.client import Client
from make_us_rich.settings import Settings

_CSRF_COOKIE = "_csrf_token"
_LINKS = (("Forecasts", forecasts.PATH), ("API", tokens.PATH))
_PAGES = {forecasts.PATH: forecasts.layout, tokens.PATH: tokens.layout}


def create_app(settings: Settings) -> Dash:
    server = Flask(__name__)
    accounts = Accounts(settings.database_url.get_secret_value())
    guard.install(server)  # before the CSRF check: a stranger is told to log in, not that a token is missing
    auth.install(server, settings, accounts)
    _hand_out_csrf_tokens(server, secure=settings.environment == "production")
    app = Dash(
        __name__,
        server=server,
        title="Make Us Rich",
        update_title=None,
        suppress_callback_exceptions=True,  # a page's components exist only while it is shown
        csrf_token_name=_CSRF_COOKIE,
        csrf_header_name="X-CSRFToken",
    )
    client = Client(settings.api_url, settings.service_token.get_secret_value())
    app.layout = _layout
    forecasts.register(app, client)
    tokens.register(app, accounts, settings.public_api_url or settings.api_url)
    _register_routing(app)
    return app


def _layout() -> Component:
    return dmc.MantineProvider(
        dmc.AppShell(
            [
                dcc.Location(id="location"),
                dmc.AppShellHeader(_header(), px="md"),
                dmc.AppShellMain(dmc.Container(id="page", size="lg", py="md", px=0)),
            ],
            header={"height": 56},
            padding="md",
        ),
        defaultColorScheme="auto",
    )


def _header() -> Component:
    # Dash also asks for the layout once by itself, when it starts
    name = current_user.name if current_user.is_authenticated else ""
    links = [dcc.Link(label, href=path, className="nav") for label, path in _LINKS]
    log_out = html.Form(
        [
            dcc.Input(type="hidden", name="csrf_token", value=generate_csrf()),
            html.Button("Log out", type="submit", className="log-out"),
        ],
        action="/logout",
        method="POST",
    )
    return dmc.Group(
        [
            dmc.Group([dmc.Text("Make Us Rich", fw=700, visibleFrom="xs"), *links], gap="md", wrap="nowrap"),
            dmc.Group(
                [
                    dmc.Text(name, size="sm", c="dimmed", visibleFrom="sm"),
                    dmc.ColorSchemeToggle(
                        lightIcon="☀", darkIcon="☾", variant="subtle", **{"aria-label": "light or dark"}
                    ),
                    log_out,
                ],
                gap="xs",
                wrap="nowrap",
            ),
        ],
        h="100%",
        justify="space-between",
        wrap="nowrap",
    )


def _register_routing(app: Dash) -> None:
    @app.callback(Output("page", "children"), Input("location", "pathname"))
    def show_page(path: str) -> Component:
        return _PAGES.get(path, notices.not_found)()


def _hand_out_csrf_tokens(server: Flask, *, secure: bool) -> None:
    """Dash's own script reads the token from a cookie and sends it back as a header with each callback."""

    @server.after_request
    def set_cookie(response: Response) -> Response:
        if current_user.is_authenticated and response.mimetype == "text/html":
            response.set_cookie(_CSRF_COOKIE, generate_csrf(), samesite="Lax", secure=secure)
        return response
