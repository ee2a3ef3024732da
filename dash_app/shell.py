"""The frame around every page: header, menu, and the choice of the page by its address."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import Input, Output, State, ctx, dcc, html
from dash.development.base_component import Component
from flask_login import current_user
from flask_wtf.csrf import generate_csrf

from dash_app.callbacks import Callbacks
from dash_app.components.colours import DARK_SHADES
from dash_app.components.layout import aria_label
from dash_app.pages import Page, services
from dash_app.security.validation import Text

# White text on shade 8 has a contrast of at least 4.5 : 1 (WCAG AA).
_THEME: dmc.MantineProvider.Theme = {
    "primaryColor": "blue",
    "primaryShade": {"light": 8, "dark": 8},
    "fontFamily": "var(--font)",
    "colors": {"dark": list(DARK_SHADES)},  # type: ignore[dict-item]  # Mantine takes ten shades; the annotation says one
}


def layout(pages: Sequence[Page]) -> Component:
    # Dash also calls this at start-up, when nobody is logged in.
    is_admin = current_user.is_authenticated and current_user.is_admin
    shown = [page for page in pages if page.in_menu and (is_admin or not page.for_admins)]
    return dmc.MantineProvider(
        dmc.AppShell(
            [
                dcc.Location(id="location"),
                dcc.Store(id="shown-path"),
                dcc.Store(id="pages", data={page.path: _for_browser(page) for page in pages}),
                html.A("Skip to content", href="#page", className="skip"),
                dmc.AppShellHeader(_header(shown), px="md"),
                dmc.AppShellNavbar(
                    html.Nav(
                        [
                            *(dmc.NavLink(label=page.label, href=page.path, active="exact") for page in shown),
                            _track_record_link(),
                            dmc.NavLink(label="Account", href="/account", active="exact"),
                            _log_out_button(),
                        ],
                        **aria_label("pages, small screen"),
                    ),
                    p="xs",
                    hiddenFrom="md",
                    id="phone-menu",
                ),
                dmc.AppShellMain(dmc.Container(id="page", size="lg", py="md", px=0)),
            ],
            id="shell",
            header={"height": 56},
            navbar=_phone_menu(opened=False),
            padding="md",
        ),
        theme=_THEME,
        defaultColorScheme="auto",
    )


callbacks = Callbacks()
callbacks.in_browser(
    "shell.pageToShow", Output("shown-path", "data"), Input("location", "pathname"), State("pages", "data")
)
callbacks.in_browser("shell.nameWindow", Input("location", "pathname"), State("pages", "data"))


@callbacks(Output("page", "children"), Input("shown-path", "data"), prevent_initial_call=True)
def show_page(path: Text) -> Component:
    page = services().pages.get(path or "/")
    if page is None:
        return _dead_end("Page not found", "Check the address.")
    if page.for_admins and not current_user.is_admin:
        return _dead_end("This page is for admins", "Ask an admin to change your role.")
    return page.layout(services().settings)


@callbacks(
    Output("shell", "navbar"),
    Output("burger", "opened"),
    Input("burger", "opened"),
    Input("location", "pathname"),
    prevent_initial_call=True,
)
def toggle_menu(opened: bool | None, _: Text) -> tuple[dmc.AppShell.Navbar, bool]:
    is_open = bool(opened) and ctx.triggered_id == "burger"
    return _phone_menu(opened=is_open), is_open


def _for_browser(page: Page) -> dict[str, object]:
    return {"label": page.label, "has_tables": page.has_tables}


def _dead_end(title: str, text: str) -> Component:
    content = [
        dmc.Title(title, order=1, size="h2"),
        dmc.Text(text, c="dimmed"),
        dmc.Anchor("Go to the forecasts", href="/"),
    ]
    return dmc.Stack(content, gap="xs", py="xl")


def _phone_menu(*, opened: bool) -> dmc.AppShell.Navbar:
    return {"width": 240, "breakpoint": "md", "collapsed": {"mobile": not opened, "desktop": True}}


def _header(pages: Sequence[Page]) -> Component:
    links = [dmc.NavLink(label=page.label, href=page.path, active="exact", className="nav") for page in pages]
    links.append(_track_record_link(className="nav", visibleFrom="lg"))
    left = [
        dmc.Burger(id="burger", opened=False, hiddenFrom="md", size="sm", **aria_label("menu of pages")),
        dcc.Link(
            [html.Img(src="/assets/favicon.svg", alt="", height=26), html.Span("Make Us Rich")],
            href="/",
            className="brand",
        ),
        html.Nav(dmc.Group(links, gap=4, wrap="nowrap", visibleFrom="md"), **aria_label("pages")),
    ]
    name = current_user.name if current_user.is_authenticated else ""
    right = [
        dmc.NavLink(
            label=dmc.Text(name, size="sm", truncate=True, maw=160),
            href="/account",
            active="exact",
            className="nav",
            visibleFrom="md",
            **aria_label(f"account {name}"),
        ),
        dmc.ColorSchemeToggle(
            lightIcon="☀", darkIcon="☾", variant="subtle", color="gray", **aria_label("switch between light and dark")
        ),
        dmc.Box(_log_out_button(), visibleFrom="md"),
    ]
    return dmc.Group(
        [dmc.Group(left, gap="md", wrap="nowrap"), dmc.Group(right, gap="xs", wrap="nowrap")],
        h="100%",
        justify="space-between",
        wrap="nowrap",
    )


def _track_record_link(**more: Any) -> dmc.NavLink:
    """Return the link to the page that everyone sees, which Dash does not draw."""
    return dmc.NavLink(label="Track record", href="/track-record", refresh=True, **more)


def _log_out_button() -> Component:
    return html.Form(
        [
            dcc.Input(type="hidden", name="csrf_token", value=generate_csrf()),
            html.Button("Log out", type="submit", className="log-out"),
        ],
        action="/logout",
        method="POST",
    )
