"""API: the user's tokens, the calls of the month, and examples of a request."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, Literal

import dash_mantine_components as dmc
from dash import ALL, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component
from flask_login import current_user
from typing_extensions import TypedDict

from dash_app.callbacks import Callbacks
from dash_app.components import notices
from dash_app.components.confirmation import confirmation
from dash_app.components.figures import usage_figure
from dash_app.components.formatting import as_sentence
from dash_app.components.layout import aria_label, graph, page, panel, submits
from dash_app.components.tables import plain_table
from dash_app.pages import Page, services
from dash_app.security.validation import Clicks, RowId, Text
from make_us_rich.accounts import Token, Usage
from make_us_rich.core.errors import InputError, NameTaken, UnknownToken
from make_us_rich.core.settings import Settings
from make_us_rich.database import pairs as pairs_table

_HIGH_USAGE = 0.8
_REFRESH_MS = 15_000
_PLACEHOLDER = "paste-your-token"
_ACTIONS = {
    "rotate": ("Rotate", "A new token is shown once. Programs that use the old one get status 401 from now on."),
    "revoke": ("Revoke", "Programs that use it get status 401 from now on. This cannot be undone."),
}


class TokenAction(TypedDict):
    """What to do with which token, once the user confirms."""

    kind: Literal["rotate", "revoke"]
    token_id: RowId


def layout(_: Settings) -> Component:
    return page(
        "API",
        dmc.Box(id="usage", children=dmc.Skeleton(h=300)),
        dmc.Title("Tokens", order=2, size="h4"),
        dmc.Group(
            [
                dmc.TextInput(
                    id="token-name",
                    placeholder="Token name",
                    w=240,
                    attributes={"input": {"aria-label": "name of the new token", "maxLength": 64}},
                ),
                dmc.Button("Create token", id="create-token"),
            ],
            align="start",
            **submits("create-token"),
        ),
        html.Div(id="new-token", role="status"),
        dmc.Box(id="tokens"),
        confirmation("token-dialog", "Change a token"),
        dcc.Store(id="token-action"),
        dmc.Title("Examples", order=2, size="h4"),
        dmc.Box(id="examples"),
        dcc.Interval(id="usage-refresh", interval=_REFRESH_MS),
    )


callbacks = Callbacks()


@callbacks(
    Output("usage", "children"),
    Output("tokens", "children"),
    Output("new-token", "children"),
    Output("examples", "children"),
    Output("token-name", "error"),
    Output("token-name", "value"),
    Input("create-token", "n_clicks"),
    Input("token-dialog-yes", "n_clicks"),
    State("token-action", "data"),
    State("token-name", "value"),
)
def manage(_: Clicks, __: Clicks, action: TokenAction | None, name: Text) -> tuple[Any, ...]:
    trigger, is_click = ctx.triggered_id, bool(ctx.triggered and ctx.triggered[0]["value"])
    tokens, user_id = services().accounts.tokens, current_user.user_id
    new_token: str | None = None
    notice: Any = no_update
    new_name: Any = no_update
    error = None
    try:
        if is_click and trigger == "create-token":
            new_token, new_name = tokens.create(user_id, name or ""), ""
        elif is_click and action and action["kind"] == "rotate":
            new_token = tokens.rotate(user_id, action["token_id"])
        elif is_click and action:
            tokens.revoke(user_id, action["token_id"])
            notice = None  # it may show the revoked token, as may the examples
    except (InputError, NameTaken, UnknownToken) as refusal:
        error = as_sentence(refusal)
    examples: Any = no_update
    if new_token is not None:
        notice = notices.shown_once("Copy the token now: it is not shown again", new_token, text_id="new-token-text")
    if new_token is not None or notice is None or not trigger:
        examples = _examples(new_token or _PLACEHOLDER)
    return *_usage_and_tokens(), notice, examples, error, new_name


@callbacks(
    Output("token-dialog", "opened"),
    Output("token-dialog-title", "children"),
    Output("token-dialog-text", "children"),
    Output("token-dialog-yes", "children"),
    Output("token-action", "data"),
    Input({"revoke": ALL}, "n_clicks"),
    Input({"rotate": ALL}, "n_clicks"),
    prevent_initial_call=True,
)
def confirm(_: list[Clicks], __: list[Clicks]) -> tuple[Any, ...]:
    if not ctx.triggered[0]["value"]:  # the table was drawn, no button was clicked
        return (no_update,) * 5
    ((kind, token_id),) = ctx.triggered_id.items()
    names = {token.token_id: token.name for token in services().accounts.tokens.of_user(current_user.user_id)}
    if token_id not in names:  # revoked in another window
        return (no_update,) * 5
    verb, effect = _ACTIONS[kind]
    action: TokenAction = {"kind": kind, "token_id": token_id}
    return True, f"{verb} the token {names[token_id]}?", effect, verb, action


@callbacks(
    Output("usage", "children", allow_duplicate=True),
    Output("tokens", "children", allow_duplicate=True),
    Input("usage-refresh", "n_intervals"),
    prevent_initial_call=True,
)
def refresh_usage(_: Clicks) -> tuple[Component, Component]:
    return _usage_and_tokens()


def _usage_and_tokens() -> tuple[Component, Component]:
    accounts, user_id = services().accounts, current_user.user_id
    return _usage(accounts.quota.usage(user_id)), _token_table(accounts.tokens.of_user(user_id))


def _usage(usage: Usage) -> Component:
    share = usage.used / usage.limit
    today = datetime.now(UTC).date()
    days = [date(today.year, today.month, day + 1) for day in range(monthrange(today.year, today.month)[1])]
    return panel(
        dmc.Group(
            [
                dmc.Text(f"{usage.used:,} of {usage.limit:,} calls used this month", fw=600),
                dmc.Text(f"resets on {_day(usage.resets_at)}, {usage.resets_at:%H:%M} UTC", c="dimmed", size="sm"),
            ],
            justify="space-between",
        ),
        dmc.Progress(
            value=min(100.0, share * 100),
            color="orange" if share >= _HIGH_USAGE else "blue",
            size="lg",
            mt="xs",
            **aria_label("share of the monthly quota used"),
        ),
        *([] if usage.remaining else [_quota_used_up(usage)]),
        graph(usage_figure(usage.by_day, days), style={"height": 200}),
    )


def _quota_used_up(usage: Usage) -> Component:
    return dmc.Alert(
        f"Calls are refused with status 429 until {_day(usage.resets_at)}. An admin can assign a larger plan.",
        title="Monthly quota used up",
        color="orange",
        variant="light",
        mt="sm",
    )


def _day(moment: datetime) -> str:
    return f"{moment.day} {moment:%B %Y}"


def _token_table(tokens: Sequence[Token]) -> Component:
    if not tokens:
        return dmc.Text("No tokens yet. Enter a name and create one.", c="dimmed")
    rows = [
        (
            token.name,
            dmc.Code(f"{token.prefix}…"),
            f"{token.created_at:%d %b %Y}",
            f"{token.last_used_at:%d %b %Y %H:%M}" if token.last_used_at else "never",
            dmc.Group(
                [_action_button("Rotate", "rotate", token), _action_button("Revoke", "revoke", token)],
                gap=4,
                wrap="nowrap",
            ),
        )
        for token in tokens
    ]
    return plain_table(("Name", "Prefix", "Created", "Last used", "Actions"), rows, min_width=620)


def _action_button(label: str, action: str, token: Token) -> Component:
    return dmc.Button(
        label,
        id={action: token.token_id},
        variant="default",
        size="compact-sm",
        **aria_label(f"{action} the token {token.name}"),
    )


def _examples(token: str) -> Component:
    settings, pairs = services().settings, pairs_table.active(services().database)
    api_url = settings.public_api_url or settings.api_url
    url = f"{api_url}/v1/forecasts/{pairs[0].pair if pairs else 'btc_usdt'}"
    curl = f'TOKEN={token}\ncurl -H "Authorization: Bearer $TOKEN" {url}'
    python = "\n".join(
        (
            "import json",
            "from urllib.request import Request, urlopen",
            "",
            f'headers = {{"Authorization": "Bearer {token}"}}',
            f'forecast = json.load(urlopen(Request("{url}", headers=headers)))',
            'print(forecast["quantiles"])',
        )
    )
    return dmc.Stack(
        [
            dmc.Text("Shell, with curl", size="sm", fw=600),
            dmc.CodeHighlight(code=curl, language="bash", id="curl-example"),
            dmc.Text("Python, standard library only", size="sm", fw=600),
            dmc.CodeHighlight(code=python, language="python", id="python-example"),
            dmc.Anchor("API reference", href=f"{api_url}/docs", target="_blank", size="sm"),
        ],
        gap="xs",
    )


PAGE = Page("/api-tokens", "API", layout, callbacks)
