"""The Users tab of the Admin page: roles, plans, quotas, locks and password links."""

from __future__ import annotations

from textwrap import shorten
from typing import Annotated, Any, NotRequired

import dash_mantine_components as dmc
from dash import Input, Output, State, ctx, no_update
from dash.development.base_component import Component
from flask_login import current_user
from pydantic import Field
from typing_extensions import TypedDict

from dash_app.callbacks import Callbacks
from dash_app.components import notices
from dash_app.components.entries import read_number
from dash_app.components.formatting import minute, utc
from dash_app.components.layout import panel, small_button, submits
from dash_app.components.row_actions import RowActions
from dash_app.components.tables import height_of, text_column, wrapped_column
from dash_app.pages import services
from dash_app.security.validation import Clicks, Text
from make_us_rich.accounts import ADMIN, MEMBER, AccountRow, link_url
from make_us_rich.core.errors import InputError

callbacks = Callbacks()
_ROWS = RowActions("admin-users", "admin-user-dialog")
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
)


class SelectedUser(TypedDict):
    """The fields of a selected row that the buttons read."""

    user_id: Annotated[str, Field(pattern="^[1-9][0-9]{0,17}$")]
    name: str
    role: NotRequired[str]
    plan: NotRequired[str]
    state: NotRequired[str]


def layout() -> Component:
    role = dmc.Group(
        [_select("admin-role", "Role", [ADMIN, MEMBER]), small_button("Set role", "admin-set-role")], align="end"
    )
    plan = dmc.Group([_select("admin-plan", "Plan", []), small_button("Set plan", "admin-set-plan")], align="end")
    locks = (("Lock", "admin-lock"), ("Unlock", "admin-unlock"), ("Create password link", "admin-link"))
    access = dmc.Group([small_button(label, button) for label, button in locks])
    notice, table, dialog = _ROWS.layout(_COLUMNS, "user_id", role, plan, access, label="name")
    return dmc.Stack([notice, table, panel(_quota_form()), dialog])


def _quota_form() -> Component:
    calls = dmc.TextInput(
        id="admin-quota", label="Calls per month", size="sm", w=160, attributes={"input": {"inputMode": "numeric"}}
    )
    controls = [_select("admin-quota-plan", "Plan", []), calls, small_button("Set quota", "admin-set-quota")]
    form = dmc.Group(controls, align="end", **submits("admin-set-quota"))
    return dmc.Stack([dmc.Text("Quota of a plan", fw=600), form])


def _select(name: str, label: str, data: list[str]) -> Component:
    return dmc.Select(id=name, label=label, data=data, allowDeselect=False, size="sm", w=170)


@callbacks(
    Output("admin-users", "rowData"),
    Output("admin-users", "style"),
    Output("admin-plan", "data"),
    Output("admin-quota-plan", "data"),
    Input("admin-users", "id"),
    for_admins=True,
)
def show(_: str) -> tuple[Any, ...]:
    plans = [
        {"value": plan.name, "label": f"{plan.name} ({plan.monthly_calls:,})"}
        for plan in services().accounts.admin.plans()
    ]
    return *_draw(), plans, plans


@callbacks(
    Output("admin-user-dialog-title", "children"),
    Output("admin-role", "value"),
    Output("admin-plan", "value"),
    Output("admin-lock", "display"),
    Output("admin-unlock", "display"),
    Input("admin-users", "selectedRows"),
    prevent_initial_call=True,
    for_admins=True,
)
def select(selected: list[SelectedUser] | None) -> Any:
    if not selected:
        return (no_update,) * 5
    user, is_locked = selected[0], selected[0].get("state") == _LOCKED
    display = ("none", None) if is_locked else (None, "none")
    return user["name"], user.get("role"), user.get("plan"), *display


@callbacks(
    output=_ROWS.outputs(),
    inputs=[
        [Input(button, "n_clicks") for button in _USER_BUTTONS],
        State("admin-users", "selectedRows"),
        State("admin-role", "value"),
        State("admin-plan", "value"),
    ],
    prevent_initial_call=True,
    for_admins=True,
)
def change_user(_: list[Clicks], selected: list[SelectedUser] | None, role: Text, plan: Text) -> Any:
    button = ctx.triggered_id
    if not selected or not ctx.triggered[0]["value"]:  # the tab was opened, no button was clicked
        return (no_update,) * 5
    user = selected[0]
    return _ROWS.run(lambda: _change(button, int(user["user_id"]), user["name"], role or "", plan or ""), _draw)


def _change(button: str, user_id: int, name: str, role: str, plan: str) -> Component:
    """Do what a button of a user's dialog says. Raises InputError."""
    admin, by = services().accounts.admin, current_user.name
    match button:
        case "admin-set-role":
            admin.set_role(user_id, role, by=by)
            done = f"{name} is {'an admin' if role == ADMIN else 'a member'} now."
        case "admin-set-plan":
            admin.set_plan(user_id, plan, by=by)
            calls = next(each.monthly_calls for each in admin.plans() if each.name == plan)
            done = f"{name} has the plan {plan} now: {calls:,} calls per month."
        case "admin-lock":
            admin.lock(user_id, by=by)
            done = f"{name} is locked: {_LOCK_EFFECT}"
        case "admin-unlock":
            admin.unlock(user_id, by=by)
            done = f"{name} is unlocked: it can log in, and its tokens work again."
        case _:
            url = link_url(services().settings.dashboard_url, services().accounts.links.create(user_id, by=by))
            title = f"The password link of {name} works once, within 24 hours"
            return notices.shown_once(title, url, text_id="admin-password-link")
    return notices.success(done)


@callbacks(
    Output("admin-users-notice", "children", allow_duplicate=True),
    Output("admin-users", "rowData", allow_duplicate=True),
    Input("admin-set-quota", "n_clicks"),
    State("admin-quota-plan", "value"),
    State("admin-quota", "value"),
    prevent_initial_call=True,
    for_admins=True,
)
def set_quota(clicks: Clicks, plan: Text, calls: Text) -> tuple[Any, Any]:
    if not clicks:
        return no_update, no_update
    try:
        monthly_calls = _whole_number(calls or "")
        services().accounts.admin.set_monthly_calls(plan or "", monthly_calls, by=current_user.name)
    except InputError as error:
        return notices.refusal(error), no_update
    return notices.success(f"Plan {plan} now allows {monthly_calls:,} calls per month."), _draw()[0]


def _whole_number(entered: str) -> int:
    number = read_number(entered)
    if number is None or not number.is_integer():
        message = f"{shorten(entered, 30)!r} is no number of calls: enter a whole number, such as 30,000"
        raise InputError(message, field="monthly_calls")
    return int(number)


def _draw() -> tuple[list[dict[str, str | int]], dict[str, str]]:
    """Return the rows of the table and its height."""
    rows = [_row(account) for account in services().accounts.admin.accounts()]
    return rows, height_of(len(rows), limit=_MAX_VISIBLE_ROWS)


def _row(account: AccountRow) -> dict[str, str | int]:
    return {
        "user_id": str(account.user_id),
        "name": account.name,
        "role": account.role,
        "plan": account.plan,
        "used": account.used,
        "calls": f"{account.used:,} of {account.monthly_calls:,}",
        "created": f"{utc(account.created_at):%Y-%m-%d}",
        "last_login": minute(account.last_login_at) if account.last_login_at else "never",
        "state": _LOCKED if account.locked else "active",
    }
