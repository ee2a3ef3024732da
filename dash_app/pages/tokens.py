"""API tokens and what they used of the month."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import ALL, Dash, Input, Output, State, ctx, no_update
from dash.development.base_component import Component
from flask_login import current_user

from make_us_rich.accounts import Accounts, Token, Usage
from make_us_rich.errors import InputError, NameTaken

_USED_MUCH = 0.8


def layout() -> Component:
    return dmc.Stack(
        [
            dmc.Title("API", order=1, size="h2"),
            dmc.Box(id="usage"),
            dmc.Title("Tokens", order=2, size="h4"),
            dmc.Group(
                [
                    dmc.TextInput(
                        id="token-name",
                        placeholder="what it is for",
                        w=240,
                        attributes={"input": {"aria-label": "name of the new token", "maxLength": 64}},
                    ),
                    dmc.Button("Create token", id="create-token"),
                ],
                align="start",
            ),
            dmc.Box(id="new-token"),
            dmc.Box(id="tokens"),
            dmc.Title("Use it", order=2, size="h4"),
            dmc.Box(id="snippet"),
        ],
        gap="md",
    )


def register(app: Dash, accounts: Accounts, api_url: str) -> None:
    @app.callback(
        Output("usage", "children"),
        Output("tokens", "children"),
        Output("new-token", "children"),
        Output("snippet", "children"),
        Output("token-name", "error"),
        Output("token-name", "value"),
        Input("create-token", "n_clicks"),
        Input({"revoke": ALL}, "n_clicks"),
        State("token-name", "value"),
    )
    def manage(_: int | None, __: list[Any], name: str | None) -> tuple[Any, ...]:
        new, error = no_update, None
        trigger = ctx.triggered_id
        if trigger == "create-token":
            try:
                new = _shown_once(accounts.create_token(current_user.user_id, name or ""))
            except (InputError, NameTaken) as refused:
                error = str(refused)
        elif isinstance(trigger, dict) and ctx.triggered[0]["value"]:
            accounts.revoke_token(current_user.user_id, int(trigger["revoke"]))
            new = None
        tokens = accounts.tokens(current_user.user_id)
        usage = accounts.usage_of(current_user.user_id)
        clear = "" if trigger == "create-token" and error is None else no_update
        return _usage(usage), _table(tokens), new, _snippet(api_url), error, clear


def _usage(usage: Usage) -> Component:
    share = usage.used / usage.limit
    return dmc.Paper(
        [
            dmc.Group(
                [
                    dmc.Text(f"{usage.used:,} of {usage.limit:,} calls used this month", fw=600),
                    dmc.Text(
                        f"starts again at 0 on {usage.resets_at:%d %B %Y, %H:%M} UTC", c="dimmed", size="sm"
                    ),
                ],
                justify="space-between",
            ),
            dmc.Progress(
                value=min(100.0, share * 100),
                color="orange" if share >= _USED_MUCH else "blue",
                size="lg",
                mt="xs",
                **{"aria-label": "share of the month's calls that is used"},
            ),
        ],
        withBorder=True,
        p="md",
        radius="md",
    )


def _shown_once(plaintext: str) -> Component:
    return dmc.Alert(
        dmc.Group(
            [
                dmc.Code(plaintext, id="plaintext-token", style={"wordBreak": "break-all"}),
                dmc.CopyButton(value=plaintext, children="Copy", copiedChildren="Copied"),
            ]
        ),
        title="Copy the token now: it is not shown again",
        color="teal",
        variant="light",
    )


def _table(tokens: list[Token]) -> Component:
    if not tokens:
        return dmc.Text("You have no token yet. Give one a name and create it.", c="dimmed")
    head = dmc.TableThead(
        dmc.TableTr([dmc.TableTh(name) for name in ("Name", "Begins with", "Created", "Last used", "")])
    )
    rows = [
        dmc.TableTr(
            [
                dmc.TableTd(token.name),
                dmc.TableTd(dmc.Code(f"{token.prefix}…")),
                dmc.TableTd(f"{token.created_at:%d %b %Y}"),
                dmc.TableTd(f"{token.last_used_at:%d %b %Y %H:%M}" if token.last_used_at else "never"),
                dmc.TableTd(
                    dmc.Button(
                        "Revoke",
                        id={"revoke": token.token_id},
                        color="red",
                        variant="subtle",
                        size="compact-sm",
                    )
                ),
            ]
        )
        for token in tokens
    ]
    return dmc.TableScrollContainer(dmc.Table([head, dmc.TableTbody(rows)]), minWidth=520)


def _snippet(api_url: str) -> Component:
    code = f'TOKEN=paste-your-token\ncurl -H "Authorization: Bearer $TOKEN" {api_url}/v1/forecasts/btc_usdt'
    return dmc.Stack(
        [
            dmc.CodeHighlight(code=code, language="bash"),
            dmc.Anchor("All endpoints", href=f"{api_url}/docs", target="_blank", size="sm"),
        ],
        gap="xs",
    )
