"""Account: change the password, list and end sessions, delete the account."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import ALL, Input, Output, State, ctx, html, no_update
from dash.development.base_component import Component
from flask_login import current_user

from dash_app.callbacks import Callbacks
from dash_app.components import notices
from dash_app.components.confirmation import confirmation, opens
from dash_app.components.formatting import utc_time
from dash_app.components.layout import aria_label, local_time, page, panel, submits
from dash_app.pages import Page, services
from dash_app.security.login import end_other_sessions, end_session, start_session
from dash_app.security.throttling import confirmation_limit
from dash_app.security.validation import Clicks, Text
from make_us_rich.accounts import Session
from make_us_rich.accounts.tokens import TOKEN_TTL_S
from make_us_rich.core.errors import InputError, TooManyAttempts, WrongCredentials
from make_us_rich.core.settings import Settings


def layout(_: Settings) -> Component:
    content = page(
        "Account",
        dmc.Text(["Logged in as ", dmc.Text(current_user.name, span=True, fw=700), "."]),
        _section(
            "change-password",
            "Password",
            _password_input("current-password", "Current password", "current-password"),
            _password_input("new-password", "New password", "new-password"),
            dmc.Button("Change password", id="change-password"),
            html.Div(id="password-notice", role="status"),
        ),
        _section(
            "end-other-sessions",
            "Sessions",
            dmc.Text("The browsers that are logged in to this account. A session lasts ten days at most."),
            dmc.Box(id="sessions", w="100%", children=dmc.Skeleton(h=60)),
            html.Div(id="sessions-notice", role="status"),
            dmc.Button("Log out all other sessions", id="end-other-sessions", variant="default"),
        ),
        _section(
            "delete-account",
            "Delete account",
            dmc.Text(f"Your tokens stop working within {TOKEN_TTL_S:.0f} seconds. This cannot be undone."),
            _password_input("delete-password", "Current password", "current-password"),
            dmc.Button("Delete my account…", id="delete-account", color="red", **opens("delete-dialog")),
            html.Div(id="delete-notice", role="status"),
        ),
        confirmation(
            "delete-dialog",
            "Delete your account?",
            f"The account {current_user.name}, its tokens and its record of calls are deleted, and all its sessions "
            "end. Programs that use a token get status 401 from now on. This cannot be undone.",
            action="Delete my account",
        ),
    )
    return dmc.Box(content, maw=560)


def _section(button_id: str, title: str, *content: Component) -> Component:
    heading = dmc.Title(title, order=2, size="h4")
    return panel(dmc.Stack([heading, *content], gap="sm", align="start", **submits(button_id)))


def _password_input(name: str, label: str, autocomplete: str) -> Component:
    return dmc.PasswordInput(id=name, label=label, autoComplete=autocomplete, w="100%", maw=320, value="")


def _session_list(sessions: Sequence[Session], this_key: str) -> Component:
    """List the sessions, this one first."""
    ordered = sorted(sessions, key=lambda each: each.key != this_key)
    return dmc.Stack([_session_row(each, is_this=each.key == this_key) for each in ordered], gap="sm")


def _session_row(session: Session, *, is_this: bool) -> Component:
    times = dmc.Text(
        ["Logged in ", local_time(session.started_at), ", last used ", local_time(session.used_at), "."],
        size="sm",
        c="dimmed",
    )
    device = dmc.Text(session.device, fw=600)
    if is_this:
        title = dmc.Group([device, dmc.Badge("This session", variant="light", tt="none")], gap="xs")
        return dmc.Stack([title, times], gap=2)
    button = dmc.Button(
        "Log out",
        id={"end-session": session.session_id},
        variant="default",
        size="compact-sm",
        **aria_label(f"log out {session.device}, logged in {utc_time(session.started_at)}"),
    )
    return dmc.Group([dmc.Stack([device, times], gap=2), button], justify="space-between", gap="xs")


callbacks = Callbacks()


@callbacks(
    Output("password-notice", "children"),
    Output("current-password", "value"),
    Output("new-password", "value"),
    Input("change-password", "n_clicks"),
    State("current-password", "value"),
    State("new-password", "value"),
    prevent_initial_call=True,
)
def change_password(clicks: Clicks, current: Text, new: Text) -> tuple[Any, ...]:
    if not clicks:
        return no_update, no_update, no_update
    accounts = services().accounts
    try:
        with accounts.throttle.attempt(confirmation_limit()):
            user = accounts.users.change_password(current_user.user_id, current or "", new or "")
    except (InputError, WrongCredentials, TooManyAttempts) as error:
        return notices.refusal(error), no_update, no_update
    start_session(user, remember=False)
    return notices.success("Password changed. All other sessions have ended."), "", ""


@callbacks(
    Output("sessions", "children"),
    Output("sessions-notice", "children"),
    Input("end-other-sessions", "n_clicks"),
    Input({"end-session": ALL}, "n_clicks"),
    Input("password-notice", "children"),  # a changed password ends the other sessions
)
def show_sessions(_: Clicks, __: list[Clicks], ___: object) -> tuple[Component, Any]:
    accounts, user_id, trigger = services().accounts, current_user.user_id, ctx.triggered_id
    is_click = bool(ctx.triggered and ctx.triggered[0]["value"])
    notice: Any = no_update
    try:
        if is_click and trigger == "end-other-sessions":
            end_other_sessions(accounts)
            notice = notices.success("All other sessions are logged out.")
        elif is_click and isinstance(trigger, dict):
            device = accounts.sessions.end_listed(user_id, trigger["end-session"])
            notice = notices.success(f"{device} is logged out.")
    except InputError as error:
        notice = notices.refusal(error)
    return _session_list(accounts.sessions.of_user(user_id), current_user.session_key), notice


@callbacks(
    Output("delete-notice", "children"),
    Output("location", "href", allow_duplicate=True),
    Input("delete-dialog-yes", "n_clicks"),
    State("delete-password", "value"),
    prevent_initial_call=True,
)
def delete_account(clicks: Clicks, password: Text) -> tuple[Any, Any]:
    if not clicks:
        return no_update, no_update
    accounts = services().accounts
    try:
        with accounts.throttle.attempt(confirmation_limit()):
            accounts.users.delete(current_user.user_id, password or "")
    except (InputError, WrongCredentials, TooManyAttempts) as error:
        return notices.refusal(error), no_update
    end_session(accounts)
    return no_update, "/register"


PAGE = Page("/account", "Account", layout, callbacks, in_menu=False)
