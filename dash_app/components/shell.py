"""What stands around every page: the header, the ways to the pages, and which page an address shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import dash_mantine_components as dmc
from dash import Dash, Input, Output, ctx, dcc, html
from dash.development.base_component import Component
from flask_login import current_user
from flask_wtf.csrf import generate_csrf

from dash_app.components import notices
from dash_app.security.callbacks import Text, checked

# Shade 8 carries white text at 4.5 : 1 and more.
_THEME = {"primaryColor": "blue", "primaryShade": {"light": 8, "dark": 8}, "fontFamily": "system-ui, sans-serif"}


@dataclass(frozen=True)
class Page:
    path: str
    label: str
    layout: Callable[[], Component]
    for_admins: bool = False
    in_menu: bool = True


def layout(pages: Sequence[Page]) -> Component:
    # Dash also asks for the layout once by itself, when it starts: nobody is logged in then
    is_admin = current_user.is_authenticated and current_user.is_admin
    offered = [page for page in pages if page.in_menu and (is_admin or not page.for_admins)]
    return dmc.MantineProvider(
        dmc.AppShell(
            [
                dcc.Location(id="location"),
                html.A("Skip to the content", href="#page", className="skip"),
                dmc.AppShellHeader(_header(offered), px="md"),
                dmc.AppShellNavbar(
                    html.Nav(
                        [
                            *(dmc.NavLink(label=page.label, href=page.path, active="exact") for page in offered),
                            dmc.NavLink(label="Account", href="/account", active="exact"),
                            _log_out(),
                        ],
                        **{"aria-label": "pages, on a phone"},
                    ),
                    p="xs",
                    hiddenFrom="md",
                    id="phone-menu",
                ),
                dmc.AppShellMain(dmc.Container(id="page", size="lg", py="md", px=0, className="page")),
            ],
            id="shell",
            header={"height": 56},
            navbar=_navbar(opened=False),
            padding="md",
        ),
        theme=_THEME,
        defaultColorScheme="auto",
    )


def register(app: Dash, pages: Sequence[Page]) -> None:
    by_path = {page.path: page for page in pages}

    @app.callback(Output("page", "children"), Input("location", "pathname"))
    @checked
    def show_page(path: Text) -> Component:
        page = by_path.get(path or "/")
        if page is None:
            return notices.not_found()
        if page.for_admins and not current_user.is_admin:
            return notices.for_admins()
        return page.layout()

    @app.callback(
        Output("shell", "navbar"),
        Output("burger", "opened"),
        Input("burger", "opened"),
        Input("location", "pathname"),
        prevent_initial_call=True,
    )
    @checked
    def open_menu(opened: bool | None, _: Text) -> tuple[dict[str, object], bool]:
        is_open = bool(opened) and ctx.triggered_id == "burger"
        return _navbar(opened=is_open), is_open


def _navbar(*, opened: bool) -> dict[str, object]:
    return {"width": 240, "breakpoint": "md", "collapsed": {"mobile": not opened, "desktop": True}}


def _header(offered: Sequence[Page]) -> Component:
    name = current_user.name if current_user.is_authenticated else ""
    links = [dmc.NavLink(label=page.label, href=page.path, active="exact", className="nav") for page in offered]
    return dmc.Group(
        [
            dmc.Group(
                [
                    dmc.Burger(
                        id="burger", opened=False, hiddenFrom="md", size="sm", **{"aria-label": "menu of pages"}
                    ),
                    dcc.Link(
                        [html.Img(src="/assets/favicon.svg", alt="", height=26), html.Span("Make Us Rich")],
                        href="/",
                        className="brand",
                    ),
                    html.Nav(dmc.Group(links, gap=4, wrap="nowrap", visibleFrom="md"), **{"aria-label": "pages"}),
                ],
                gap="md",
                wrap="nowrap",
            ),
            dmc.Group(
                [
                    dmc.NavLink(
                        label=dmc.Text(name, size="sm", truncate=True, maw=160),
                        href="/account",
                        active="exact",
                        className="nav",
                        visibleFrom="md",
                        **{"aria-label": f"account {name}"},
                    ),
                    dmc.ColorSchemeToggle(
                        lightIcon="☀", darkIcon="☾", variant="subtle", color="gray", **{"aria-label": "light or dark"}
                    ),
                    dmc.Box(_log_out(), visibleFrom="md"),
                ],
                gap="xs",
                wrap="nowrap",
            ),
        ],
        h="100%",
        justify="space-between",
        wrap="nowrap",
    )


def _log_out() -> Component:
    return html.Form(
        [
            dcc.Input(type="hidden", name="csrf_token", value=generate_csrf()),
            html.Button("Log out", type="submit", className="log-out"),
        ],
        action="/logout",
        method="POST",
    )
