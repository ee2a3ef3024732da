"""Accounts: their roles, plans and quotas, locks, and links that set a password."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

import dash_ag_grid as dag
import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, ctx, html, no_update
from dash.development.base_component import Component
from flask_login import current_user
from pydantic import Field
from typing_extensions import TypedDict

from dash_app.components.grids import ONE_ROW_CHOSEN, fitting, text
from dash_app.security.auth import as_sentence
from dash_app.security.callbacks import Clicks, Text, checked
from dash_app.security.guard import admins_only
from make_us_rich.accounts import ADMIN, MEMBER, AccountRow, Accounts, link_url
from make_us_rich.core.errors import InputError
from make_us_rich.core.settings import Settings

_COLUMNS = [
    text("Name", "name", minWidth=150, flex=2),
    text("Role", "role"),
    text("Plan", "plan"),
    text("Calls this month", "calls", comparator_field="used", minWidth=150),
    text("Since", "since", minWidth=110),
    text("Last log-in", "last_login", minWidth=170),
    text("State", "state"),
]


class AccountChoice(TypedDict):
    """Of a chosen row, what the buttons read."""

    user_id: Annotated[str, Field(pattern="^[1-9][0-9]{0,17}$")]
    name: str
    role: NotRequired[str]
    plan: NotRequired[str]


_SMALL = {"size": "sm", "variant": "default"}


def layout() -> Component:
    return dmc.Stack(
        [
            dag.AgGrid(
                id="admin-users",
                columnDefs=_COLUMNS,
                getRowId="params.data.user_id",
                dashGridOptions=ONE_ROW_CHOSEN,
                style=fitting(4),
            ),
            html.Div(id="admin-told", role="status"),
            dmc.Paper(
                dmc.Stack(
                    [
                        dmc.Text("Choose an account above.", id="admin-chosen", fw=600),
                        dmc.Group(
                            [
                                _select("admin-role", "Role", [ADMIN, MEMBER]),
                                dmc.Button("Set role", id="admin-set-role", **_SMALL),
                                _select("admin-plan", "Plan", []),
                                dmc.Button("Set plan", id="admin-set-plan", **_SMALL),
                                dmc.Button("Lock", id="admin-lock", **_SMALL),
                                dmc.Button("Unlock", id="admin-unlock", **_SMALL),
                                dmc.Button("Make password link", id="admin-link", **_SMALL),
                            ],
                            align="end",
                        ),
                    ]
                ),
                withBorder=True,
                p="md",
                radius="md",
            ),
            dmc.Paper(
                dmc.Stack(
                    [
                        dmc.Title("Quota of a plan", order=2, size="h5"),
                        dmc.Group(
                            [
                                _select("admin-quota-plan", "Plan", []),
                                dmc.NumberInput(
                                    id="admin-quota",
                                    label="Calls a month",
                                    min=1,
                                    thousandSeparator=",",
                                    size="sm",
                                    w=160,
                                ),
                                dmc.Button("Set quota", id="admin-set-quota", **_SMALL),
                            ],
                            align="end",
                        ),
                    ]
                ),
                withBorder=True,
                p="md",
                radius="md",
            ),
        ]
    )


def _select(name: str, label: str, data: list[str]) -> Component:
    return dmc.Select(id=name, label=label, data=data, allowDeselect=False, size="sm", w=170)


def register(app: Dash, settings: Settings, accounts: Accounts) -> None:
    @app.callback(
        Output("admin-users", "rowData"),
        Output("admin-users", "style"),
        Output("admin-plan", "data"),
        Output("admin-quota-plan", "data"),
        Input("admin-users", "id"),
    )
    @admins_only
    @checked
    def show(_: str) -> tuple[Any, ...]:
        rows = [_row(account) for account in accounts.accounts()]
        plans = [{"value": plan.name, "label": f"{plan.name} ({plan.monthly_calls:,})"} for plan in accounts.plans()]
        return rows, fitting(min(len(rows), 10)), plans, plans

    @app.callback(
        Output("admin-chosen", "children"),
        Output("admin-role", "value"),
        Output("admin-plan", "value"),
        Input("admin-users", "selectedRows"),
        prevent_initial_call=True,
    )
    @admins_only
    @checked
    def choose(selected: list[AccountChoice] | None) -> tuple[Any, ...]:
        if not selected:
            return "Choose an account above.", None, None
        return selected[0]["name"], selected[0].get("role"), selected[0].get("plan")

    @app.callback(
        Output("admin-told", "children"),
        Output("admin-users", "rowData", allow_duplicate=True),
        Input("admin-set-role", "n_clicks"),
        Input("admin-set-plan", "n_clicks"),
        Input("admin-lock", "n_clicks"),
        Input("admin-unlock", "n_clicks"),
        Input("admin-link", "n_clicks"),
        State("admin-users", "selectedRows"),
        State("admin-role", "value"),
        State("admin-plan", "value"),
        prevent_initial_call=True,
    )
    @admins_only
    @checked
    def change(
        _role_clicks: Clicks,
        _plan_clicks: Clicks,
        _lock_clicks: Clicks,
        _unlock_clicks: Clicks,
        _link_clicks: Clicks,
        selected: list[AccountChoice] | None,
        role: Text,
        plan: Text,
    ) -> tuple[Any, Any]:
        if not ctx.triggered[0]["value"]:  # the tab was opened, nobody clicked
            return no_update, no_update
        if not selected:
            return dmc.Alert("Choose an account first.", color="orange", variant="light"), no_update
        user_id, name = int(selected[0]["user_id"]), selected[0]["name"]
        by = current_user.name
        told: Component = dmc.Alert(f"{name} is changed.", color="teal", variant="light")
        try:
            match ctx.triggered_id:
                case "admin-set-role":
                    accounts.set_role(user_id, role or "", by=by)
                case "admin-set-plan":
                    accounts.set_plan(user_id, plan or "", by=by)
                case "admin-lock":
                    accounts.lock(user_id, by=by)
                case "admin-unlock":
                    accounts.unlock(user_id, by=by)
                case "admin-link":
                    secret = accounts.create_password_link(user_id, by=by)
                    told = _link(name, link_url(settings.dashboard_url, secret))
        except InputError as error:
            told = dmc.Alert(as_sentence(error), color="red", variant="light")
        return told, [_row(account) for account in accounts.accounts()]

    @app.callback(
        Output("admin-told", "children", allow_duplicate=True),
        Output("admin-users", "rowData", allow_duplicate=True),
        Input("admin-set-quota", "n_clicks"),
        State("admin-quota-plan", "value"),
        State("admin-quota", "value"),
        prevent_initial_call=True,
    )
    @admins_only
    @checked
    def set_quota(
        clicks: Clicks, plan: Text, calls: Annotated[float, Field(allow_inf_nan=False)] | Literal[""] | None
    ) -> tuple[Any, Any]:
        if not clicks:
            return no_update, no_update
        try:
            accounts.set_monthly_calls(plan or "", int(calls or 0), by=current_user.name)
        except InputError as error:
            return dmc.Alert(as_sentence(error), color="red", variant="light"), no_update
        said = f"{plan} allows {int(calls or 0):,} calls a month now."
        return dmc.Alert(said, color="teal", variant="light"), [_row(row) for row in accounts.accounts()]


def _row(account: AccountRow) -> dict[str, Any]:
    login = account.last_login_at
    return {
        "user_id": str(account.user_id),
        "name": account.name,
        "role": account.role,
        "plan": account.plan,
        "used": account.used,
        "calls": f"{account.used:,} of {account.monthly_calls:,}",
        "since": f"{account.created_at:%Y-%m-%d}",
        "last_login": f"{login:%Y-%m-%d %H:%M}" if login else "never",
        "state": "locked" if account.locked else "active",
    }


def _link(name: str, url: str) -> Component:
    return dmc.Alert(
        dmc.Group(
            [
                dmc.Code(url, id="admin-password-link", style={"wordBreak": "break-all"}),
                dmc.CopyButton(value=url, children="Copy", copiedChildren="Copied"),
            ]
        ),
        title=f"Hand this link to {name}: it sets a password once, within 24 hours",
        color="teal",
        variant="light",
    )
