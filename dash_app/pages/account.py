"""Account: change the password, end all sessions, delete the account."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, html, no_update
from dash.development.base_component import Component
from flask_login import current_user

from dash_app.components import notices
from dash_app.components.layout import page, panel, submits
from dash_app.pages import Services
from dash_app.security.login import end_session, start_session
from dash_app.security.throttling import confirmation_limit
from dash_app.security.validation import Clicks, Text, validated
from make_us_rich.core.errors import InputError, TooManyAttempts, WrongCredentials


def layout() -> Component:
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
            "log-out-everywhere",
            "Sessions",
            dmc.Text("End all sessions of this account, on every device including this one."),
            dmc.Button("Log out everywhere", id="log-out-everywhere", variant="default"),
        ),
        _section(
            "delete-account",
            "Delete account",
            dmc.Text("Your tokens stop working at once. This cannot be undone."),
            _password_input("delete-password", "Current password", "current-password"),
            dmc.Button("Delete my account", id="delete-account", color="red"),
            html.Div(id="delete-notice", role="status"),
        ),
    )
    return dmc.Box(content, maw=560)


def _section(button_id: str, title: str, *content: Component) -> Component:
    heading = dmc.Title(title, order=2, size="h4")
    return panel(dmc.Stack([heading, *content], gap="sm", align="start", **submits(button_id)))


def _password_input(name: str, label: str, autocomplete: str) -> Component:
    return dmc.PasswordInput(id=name, label=label, autoComplete=autocomplete, w="100%", maw=320, value="")


def register(app: Dash, services: Services) -> None:
    accounts = services.accounts

    @app.callback(
        Output("password-notice", "children"),
        Output("current-password", "value"),
        Output("new-password", "value"),
        Input("change-password", "n_clicks"),
        State("current-password", "value"),
        State("new-password", "value"),
        prevent_initial_call=True,
    )
    @validated
    def change_password(clicks: Clicks, current: Text, new: Text) -> tuple[Any, ...]:
        if not clicks:
            return no_update, no_update, no_update
        try:
            with accounts.throttle.attempt(confirmation_limit()):
                user = accounts.users.change_password(current_user.user_id, current or "", new or "")
        except (InputError, WrongCredentials, TooManyAttempts) as error:
            return notices.refusal(error), no_update, no_update
        start_session(user, remember=False)
        return notices.success("Password changed. All other sessions have ended."), "", ""

    @app.callback(
        Output("location", "href", allow_duplicate=True),
        Input("log-out-everywhere", "n_clicks"),
        prevent_initial_call=True,
    )
    @validated
    def log_out_everywhere(clicks: Clicks) -> Any:
        if not clicks:
            return no_update
        accounts.users.log_out_everywhere(current_user.user_id)
        end_session(accounts)
        return "/login"

    @app.callback(
        Output("delete-notice", "children"),
        Output("location", "href", allow_duplicate=True),
        Input("delete-account", "n_clicks"),
        State("delete-password", "value"),
        prevent_initial_call=True,
    )
    @validated
    def delete_account(clicks: Clicks, password: Text) -> tuple[Any, Any]:
        if not clicks:
            return no_update, no_update
        try:
            with accounts.throttle.attempt(confirmation_limit()):
                accounts.users.delete(current_user.user_id, password or "")
        except (InputError, WrongCredentials, TooManyAttempts) as error:
            return notices.refusal(error), no_update
        end_session(accounts)
        return no_update, "/register"
