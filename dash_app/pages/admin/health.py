"""What `mkrich doctor` finds, as a table."""

from __future__ import annotations

import dash_mantine_components as dmc
from dash import Dash, Input, Output
from dash.development.base_component import Component

from dash_app.security.callbacks import Clicks, checked
from dash_app.security.guard import admins_only
from make_us_rich.core.settings import Settings
from make_us_rich.operations.doctor import Finding, examine

_COLOURS = {"ok": "teal", "warning": "orange", "failed": "red"}


def layout() -> Component:
    return dmc.Stack(
        [
            dmc.Group(
                [
                    dmc.Button("Ask again", id="admin-ask-health", variant="default"),
                    dmc.Text("A component that does not answer is waited for, up to half a minute.", c="dimmed"),
                ]
            ),
            dmc.Box(id="admin-health", children=dmc.Skeleton(h=320)),
        ]
    )


def register(app: Dash, settings: Settings) -> None:
    @app.callback(
        Output("admin-health", "children"),
        Input("admin-ask-health", "n_clicks"),
        running=[(Output("admin-ask-health", "loading"), True, False)],
    )
    @admins_only
    @checked
    def show(_: Clicks) -> Component:
        head = [dmc.TableTh(name) for name in ("Component", "State", "Found", "Way out")]
        rows = [_row(finding) for finding in examine(settings)]
        return dmc.TableScrollContainer(
            dmc.Table([dmc.TableThead(dmc.TableTr(head)), dmc.TableTbody(rows)]), minWidth=640
        )


def _row(finding: Finding) -> Component:
    badge = dmc.Badge(finding.state, color=_COLOURS[finding.state], variant="light", tt="none")
    cells = (dmc.Text(finding.name, fw=600, size="sm"), badge, finding.detail, finding.way_out)
    return dmc.TableTr([dmc.TableTd(cell, style={"overflowWrap": "anywhere"}) for cell in cells])
