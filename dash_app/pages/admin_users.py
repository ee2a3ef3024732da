"""The Users tab of the Admin page: roles, plans, quotas, locks and password links."""

from __future__ import annotations

from textwrap import shorten
from typing import Annotated, Any, NotRequired

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, ctx, html, no_update
from dash.development.base_component import Component
from flask_login import current_user
from pydantic import Field
from typing_extensions import TypedDict

from dash_app.components import notices
from dash_app.components.entries import read_number
from dash_app.components.layout import (
    actions_column,
    actions_dialog,
    height_of,
    open_by_row,
    panel,
    small_button,
    submits,
    table,
    text_column,
    wrapped_column,
)
from dash_app.pages import Services
from dash_app.security.access import admins_only
from dash_app.security.validation import Clicks, Text, validated
from make_us_rich.accounts import ADMIN, MEMBER, AccountRow, Accounts, link_url
from make_us_rich.core.errors import InputError

_MAX_VISIBLE_ROWS = 10
_LOCKED = "locked"
_LOCK_EFFECT = "its sessions have ended, and its tokens and log-ins are refused until an admin unlocks it."
_USER_BUTTONS = ("admin-set-role", "admin-set-plan", "admin-lock", "admin-unlock", "admin-link")
_COLUMNS = (
    wrapped_column("Name", "name", minWidth=150, flex=2),
    text_column("Role", "role"),
    text_column("Plan", "plan"),
    wrapped_column("Calls this month", "calls", sort_field="used", minWidth=150),
    text_column("Created", "created", minWidth=110),
    text_column("Last log-in", "last_login", minWidth=170),
    text_column("State", "state"),
    actions_column("name"),
)


class SelectedUser(TypedDict):
    """The fields of a selected row that the buttons read."""

    user_id: Annotated[str, Field(pattern="^[1-9][0-9]{0,17}$")]
    name: str
    role: NotRequired[str]
    plan: NotRequired[str]
    state: NotRequired[str]


def layout() -> Component:
    quota_controls = [
        _select("admin-quota-plan", "Plan", []),
        dmc.TextInput(
            id="admin-quota", label="Calls per month", size="sm", w=160, attributes={"input": {"inputMode": "numeric"}}
        ),
        small_button("Set quota", "admin-set-quota"),
    ]
    return dmc.Stack(
        [
            html.Div(id="admin-users-notice", role="status"),
            table("admin-users", _COLUMNS, key="user_id", rows=4, select="by button"),
            panel(
                dmc.Stack(
                    [
                        dmc.Text("Quota of a plan", fw=600),
                        dmc.Group(quota_controls, align="end", **submits("admin-set-quota")),
                    ]
                )
            ),
            actions_dialog(
                "admin-user-dialog",
                dmc.Group(
                    [_select("admin-role", "Role", [ADMIN, MEMBER]), small_button("Set role", "admin-set-role")],
                    align="end",
                ),
                dmc.Group([_select("admin-plan", "Plan", []), small_button("Set plan", "admin-set-plan")], align="end"),
                dmc.Group(
                    [
                        small_button("Lock", "admin-lock"),
                        small_button("Unlock", "admin-unlock"),
                        small_button("Create password link", "admin-link"),
                    ]
                ),
            ),
        ]
    )


def _select(name: str, label: str, data: list[str]) -> Component:
    return dmc.Select(id=name, label=label, data=data, allowDeselect=False, size="sm", w=170)


def register(app: Dash, services: Services) -> None:
    accounts = services.accounts

    @app.callback(
        Output("admin-users", "rowData"),
        Output("admin-users", "style"),
        Output("admin-plan", "data"),
        Output("admin-quota-plan", "data"),
        Input("admin-users", "id"),
    )
    @admins_only
    @validated
    def show(_: str) -> tuple[Any, ...]:
        rows = _rows(accounts)
        plans = [
            {"value": plan.name, "label": f"{plan.name} ({plan.monthly_calls:,})"} for plan in accounts.admin.plans()
        ]
        return rows, height_of(len(rows), limit=_MAX_VISIBLE_ROWS), plans, plans

    open_by_row(app, "admin-user-dialog", "admin-users")

    @app.callback(
        Output("admin-user-dialog-title", "children"),
        Output("admin-role", "value"),
        Output("admin-plan", "value"),
        Output("admin-lock", "display"),
        Output("admin-unlock", "display"),
        Input("admin-users", "selectedRows"),
        prevent_initial_call=True,
    )
    @admins_only
    @validated
    def select(selected: list[SelectedUser] | None) -> Any:
        if not selected:
            return (no_update,) * 5
        user, is_locked = selected[0], selected[0].get("state") == _LOCKED
        display = ("none", None) if is_locked else (None, "none")
        return user["name"], user.get("role"), user.get("plan"), *display

    @app.callback(
        output=[
            Output("admin-users-notice", "children"),
            Output("admin-user-dialog-notice", "children", allow_duplicate=True),
            Output("admin-user-dialog", "opened", allow_duplicate=True),
            Output("admin-users", "rowData", allow_duplicate=True),
        ],
        inputs=[
            [Input(button, "n_clicks") for button in _USER_BUTTONS],
            State("admin-users", "selectedRows"),
            State("admin-role", "value"),
            State("admin-plan", "value"),
        ],
        prevent_initial_call=True,
    )
    @admins_only
    @validated
    def change_user(_: list[Clicks], selected: list[SelectedUser] | None, role: Text, plan: Text) -> Any:
        if not selected or not ctx.triggered[0]["value"]:  # the tab was opened, no button was clicked
            return (no_update,) * 4
        user_id, name, by = int(selected[0]["user_id"]), selected[0]["name"], current_user.name
        try:
            match ctx.triggered_id:
                case "admin-set-role":
                    accounts.admin.set_role(user_id, role or "", by=by)
                    done = f"{name} is {'an admin' if role == ADMIN else 'a member'} now."
                case "admin-set-plan":
                    accounts.admin.set_plan(user_id, plan or "", by=by)
                    calls = next(each.monthly_calls for each in accounts.admin.plans() if each.name == plan)
                    done = f"{name} has the plan {plan} now: {calls:,} calls per month."
                case "admin-lock":
                    accounts.admin.lock(user_id, by=by)
                    done = f"{name} is locked: {_LOCK_EFFECT}"
                case "admin-unlock":
                    accounts.admin.unlock(user_id, by=by)
                    done = f"{name} is unlocked: it can log in, and its tokens work again."
                case _:
                    url = link_url(services.settings.dashboard_url, accounts.links.create(user_id, by=by))
                    title = f"The password link of {name} works once, within 24 hours"
                    link = notices.shown_once(title, url, text_id="admin-password-link")
                    return link, None, False, _rows(accounts)
        except InputError as error:
            return no_update, notices.refusal(error), True, _rows(accounts)
        return notices.success(done), None, False, _rows(accounts)

    @app.callback(
        Output("admin-users-notice", "children", allow_duplicate=True),
        Output("admin-users", "rowData", allow_duplicate=True),
        Input("admin-set-quota", "n_clicks"),
        State("admin-quota-plan", "value"),
        State("admin-quota", "value"),
        prevent_initial_call=True,
    )
    @admins_only
    @validated
    def set_quota(clicks: Clicks, plan: Text, calls: Text) -> tuple[Any, Any]:
        if not clicks:
            return no_update, no_update
        try:
            monthly_calls = _whole_number(calls or "")
            accounts.admin.set_monthly_calls(plan or "", monthly_calls, by=current_user.name)
        except InputError as error:
            return notices.refusal(error), no_update
        return notices.success(f"Plan {plan} now allows {monthly_calls:,} calls per month."), _rows(accounts)


def _whole_number(entered: str) -> int:
    number = read_number(entered)
    if number is None or not number.is_integer():
        message = f"{shorten(entered, 30)!r} is no number of calls: enter a whole number, such as 30,000"
        raise InputError(message, field="monthly_calls")
    return int(number)


def _rows(accounts: Accounts) -> list[dict[str, str | int]]:
    return [_row(account) for account in accounts.admin.accounts()]


def _row(account: AccountRow) -> dict[str, str | int]:
    login = account.last_login_at
    return {
        "user_id": str(account.user_id),
        "name": account.name,
        "role": account.role,
        "plan": account.plan,
        "used": account.used,
        "calls": f"{account.used:,} of {account.monthly_calls:,}",
        "created": f"{account.created_at:%Y-%m-%d}",
        "last_login": f"{login:%Y-%m-%d %H:%M}" if login else "never",
        "state": _LOCKED if account.locked else "active",
    }
