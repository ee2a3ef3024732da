"""One's own account: the password, the sessions, and leaving."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, html, no_update
from dash.development.base_component import Component
from flask_login import current_user

from dash_app.security import sessions
from dash_app.security.auth import as_sentence
from dash_app.security.callbacks import Clicks, Text, checked
from dash_app.security.limits import limit_confirmations
from make_us_rich.accounts import Accounts
from make_us_rich.core.errors import InputError, TooManyAttempts, WrongCredentials


def layout() -> Component:
    return dmc.Stack(
        [
            dmc.Title("Account", order=1, size="h2"),
            dmc.Text(["Logged in as ", dmc.Text(current_user.name, span=True, fw=700), "."]),
            _section(
                "Password",
                [
                    _password("current-password", "Current password", "current-password"),
                    _password("new-password", "New password", "new-password"),
                    dmc.Button("Change password", id="change-password"),
                    html.Div(id="password-changed", role="status"),
                ],
            ),
            _section(
                "Sessions",
                [
                    dmc.Text("Ends every session of this account on every device, this one too."),
                    dmc.Button("Log out everywhere", id="log-out-everywhere", variant="default"),
                ],
            ),
            _section(
                "Delete the account",
                [
                    dmc.Text("Your tokens stop working at once, and nothing can bring the account back."),
                    _password("delete-password", "Current password", "current-password"),
                    dmc.Button("Delete my account", id="delete-account", color="red"),
                    html.Div(id="deleted", role="status"),
                ],
            ),
        ],
        gap="md",
        maw=560,
    )


def _section(title: str, content: list[Component]) -> Component:
    return dmc.Paper(
        dmc.Stack([dmc.Title(title, order=2, size="h4"), *content], gap="sm", align="start"),
        withBorder=True,
        p="md",
        radius="md",
    )


def _password(name: str, label: str, completion: str) -> Component:
    return dmc.PasswordInput(id=name, label=label, autoComplete=completion, w="100%", maw=320, value="")


def register(app: Dash, accounts: Accounts) -> None:
    @app.callback(
        Output("password-changed", "children"),
        Output("current-password", "value"),
        Output("new-password", "value"),
        Input("change-password", "n_clicks"),
        State("current-password", "value"),
        State("new-password", "value"),
        prevent_initial_call=True,
    )
    @checked
    def change_password(clicks: Clicks, current: Text, new: Text) -> tuple[Any, ...]:
        if not clicks:
            return no_update, no_update, no_update
        try:
            with limit_confirmations(accounts):
                user = accounts.change_password(current_user.user_id, current or "", new or "")
        except (InputError, WrongCredentials, TooManyAttempts) as error:
            return _refusal(error), no_update, no_update
        sessions.begin(user, remember=False)
        told = "The password is changed. Every other session has ended."
        return dmc.Alert(told, color="teal", variant="light"), "", ""

    @app.callback(
        Output("location", "href", allow_duplicate=True),
        Input("log-out-everywhere", "n_clicks"),
        prevent_initial_call=True,
    )
    @checked
    def log_out_everywhere(clicks: Clicks) -> Any:
        if not clicks:
            return no_update
        accounts.log_out_everywhere(current_user.user_id)
        sessions.end(accounts)
        return "/login"

    @app.callback(
        Output("deleted", "children"),
        Output("location", "href", allow_duplicate=True),
        Input("delete-account", "n_clicks"),
        State("delete-password", "value"),
        prevent_initial_call=True,
    )
    @checked
    def delete_account(clicks: Clicks, password: Text) -> tuple[Any, Any]:
        if not clicks:
            return no_update, no_update
        try:
            with limit_confirmations(accounts):
                accounts.delete_user(current_user.user_id, password or "")
        except (InputError, WrongCredentials, TooManyAttempts) as error:
            return _refusal(error), no_update
        sessions.end(accounts)
        return no_update, "/register"


def _refusal(error: InputError | WrongCredentials | TooManyAttempts) -> Component:
    return dmc.Alert(as_sentence(error), color="red", variant="light")
