"""API tokens, what they used of the month, and how to use them."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime
from typing import Any

import dash_mantine_components as dmc
from dash import ALL, Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component
from flask_login import current_user

from dash_app.components.figures import usage_figure
from dash_app.security.auth import as_sentence
from dash_app.security.callbacks import Clicks, Text, checked
from make_us_rich.accounts import Accounts, Token, Usage
from make_us_rich.core.errors import InputError, NameTaken, UnknownToken
from make_us_rich.database import pairs as pairs_table

_USED_MUCH = 0.8
_REFRESH_MS = 15_000
_PLACEHOLDER = "paste-your-token"


def layout() -> Component:
    return dmc.Stack(
        [
            dmc.Title("API", order=1, size="h2"),
            dmc.Box(id="usage", children=dmc.Skeleton(h=300)),
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
            html.Div(id="new-token", role="status"),
            dmc.Box(id="tokens"),
            dmc.Title("Use it", order=2, size="h4"),
            dmc.Box(id="snippet"),
            dcc.Interval(id="usage-tick", interval=_REFRESH_MS),
        ],
        gap="md",
    )


def register(app: Dash, accounts: Accounts, api_url: str, database_url: str) -> None:
    @app.callback(
        Output("usage", "children"),
        Output("tokens", "children"),
        Output("new-token", "children"),
        Output("snippet", "children"),
        Output("token-name", "error"),
        Output("token-name", "value"),
        Input("create-token", "n_clicks"),
        Input({"revoke": ALL}, "n_clicks"),
        Input({"rotate": ALL}, "n_clicks"),
        State("token-name", "value"),
    )
    @checked
    def manage(_: Clicks, __: list[Clicks], ___: list[Clicks], name: Text) -> tuple[Any, ...]:
        trigger, clicked = ctx.triggered_id, bool(ctx.triggered and ctx.triggered[0]["value"])
        plaintext, shown, error, clear = None, no_update, None, no_update
        try:
            if clicked and trigger == "create-token":
                plaintext, clear = accounts.create_token(current_user.user_id, name or ""), ""
            elif clicked and "rotate" in trigger:
                plaintext = accounts.rotate_token(current_user.user_id, int(trigger["rotate"]))
            elif clicked and "revoke" in trigger:
                accounts.revoke_token(current_user.user_id, int(trigger["revoke"]))
                shown = None
        except (InputError, NameTaken, UnknownToken) as refused:
            error = as_sentence(refused)
        snippet: Any = no_update if trigger else _snippets(api_url, _a_pair(database_url), _PLACEHOLDER)
        if plaintext is not None:
            shown, snippet = _shown_once(plaintext), _snippets(api_url, _a_pair(database_url), plaintext)
        usage = _usage(accounts.usage_of(current_user.user_id))
        return usage, _table(accounts.tokens(current_user.user_id)), shown, snippet, error, clear

    @app.callback(
        Output("usage", "children", allow_duplicate=True), Input("usage-tick", "n_intervals"), prevent_initial_call=True
    )
    @checked
    def count_again(_: Clicks) -> Component:
        return _usage(accounts.usage_of(current_user.user_id))


def _usage(usage: Usage) -> Component:
    share = usage.used / usage.limit
    today = datetime.now(UTC).date()
    days = [date(today.year, today.month, day + 1) for day in range(monthrange(today.year, today.month)[1])]
    return dmc.Paper(
        [
            dmc.Group(
                [
                    dmc.Text(f"{usage.used:,} of {usage.limit:,} calls used this month", fw=600),
                    dmc.Text(
                        f"starts again at 0 on {_day(usage.resets_at)}, {usage.resets_at:%H:%M} UTC",
                        c="dimmed",
                        size="sm",
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
            *([_nothing_left(usage)] if not usage.remaining else []),
            dcc.Graph(
                figure=usage_figure(usage.by_day, days),
                config={"displayModeBar": False},
                className="plot",
                style={"height": 200},
            ),
        ],
        withBorder=True,
        p="md",
        radius="md",
    )


def _nothing_left(usage: Usage) -> Component:
    return dmc.Alert(
        f"Every call is answered with 429 until {_day(usage.resets_at)}. An admin can give you another plan.",
        title="The month's calls are used up",
        color="orange",
        variant="light",
        mt="sm",
    )


def _day(moment: datetime) -> str:
    return f"{moment.day} {moment:%B %Y}"


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
        dmc.TableTr([dmc.TableTh(name) for name in ("Name", "Begins with", "Created", "Last used", "Actions")])
    )
    rows = [
        dmc.TableTr(
            [
                dmc.TableTd(token.name, style={"overflowWrap": "anywhere"}),
                dmc.TableTd(dmc.Code(f"{token.prefix}…")),
                dmc.TableTd(f"{token.created_at:%d %b %Y}"),
                dmc.TableTd(f"{token.last_used_at:%d %b %Y %H:%M}" if token.last_used_at else "never"),
                dmc.TableTd(
                    dmc.Group(
                        [_action("Rotate", "rotate", token), _action("Revoke", "revoke", token)], gap=4, wrap="nowrap"
                    )
                ),
            ]
        )
        for token in tokens
    ]
    return dmc.TableScrollContainer(dmc.Table([head, dmc.TableTbody(rows)]), minWidth=620)


def _action(label: str, deed: str, token: Token) -> Component:
    return dmc.Button(
        label,
        id={deed: token.token_id},
        variant="default",
        size="compact-sm",
        **{"aria-label": f"{deed} the token {token.name}"},
    )


def _a_pair(database_url: str) -> str:
    pairs = pairs_table.active(database_url)
    return pairs[0].pair if pairs else "btc_usdt"


def _snippets(api_url: str, pair: str, token: str) -> Component:
    curl = f'TOKEN={token}\ncurl -H "Authorization: Bearer $TOKEN" {api_url}/v1/forecasts/{pair}'
    python = "\n".join(
        (
            "import json",
            "from urllib.request import Request, urlopen",
            "",
            f'headers = {{"Authorization": "Bearer {token}"}}',
            f'forecast = json.load(urlopen(Request("{api_url}/v1/forecasts/{pair}", headers=headers)))',
            'print(forecast["quantiles"])',
        )
    )
    return dmc.Stack(
        [
            dmc.Text("In a shell", size="sm", fw=600),
            dmc.CodeHighlight(code=curl, language="bash", id="curl-snippet"),
            dmc.Text("In Python, with nothing installed", size="sm", fw=600),
            dmc.CodeHighlight(code=python, language="python", id="python-snippet"),
            dmc.Anchor("All endpoints", href=f"{api_url}/docs", target="_blank", size="sm"),
        ],
        gap="xs",
    )
