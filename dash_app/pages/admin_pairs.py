"""The Pairs tab of the Admin page: which pairs are trained and served, and how."""

from __future__ import annotations

import time
from collections.abc import Sequence
from textwrap import shorten
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, ctx, html, no_update
from dash.development.base_component import Component
from flask_login import current_user
from typing_extensions import TypedDict

from dash_app.components import confirmation, notices
from dash_app.components.formatting import utc_time
from dash_app.components.layout import (
    PAIRS_BY_START,
    height_of,
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
from make_us_rich.client import ServiceRefused, ServiceUnavailable
from make_us_rich.core.errors import InputError, MarketError, MarketUnavailable
from make_us_rich.core.pair import Pair, Series
from make_us_rich.core.settings import Settings
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pairs import TrackedPair
from make_us_rich.market import listing
from make_us_rich.operations.airflow import Airflow, AirflowError, dag_of
from make_us_rich.operations.training_budget import DueTraining, due_trainings

_MAX_VISIBLE_ROWS = 10
_LONG_STATE = 60  # characters: a longer one has a second line
_CHARACTERS = 26  # of a line in the columns of trainings
_FAILURE_CHARACTERS = 100
_OFFERED_PAIRS = 30  # of those that match what was typed
_REMOVAL = (
    "It is neither trained nor served from the next run on. Its models, candles and forecasts stay. The setting of the "
    "first pairs, MUR_PAIRS, adds a pair that it names again when the installation is prepared again."
)
_BUTTONS = ("admin-train", "admin-park", "admin-unpark", "admin-put-pair", "admin-remove-dialog-yes")
_COLUMNS = (
    text_column("Pair", "pair", minWidth=120),
    text_column("Serving plan", "plan", minWidth=120),
    text_column("Replicas", "replicas", minWidth=100),
    wrapped_column(
        "Trained",
        "trained",
        minWidth=190,
        headerTooltip="Close of the newest candle of the last training, and of a newer one that failed",
    ),
    wrapped_column(
        "Due",
        "due",
        sort_field="due_ms",
        minWidth=230,
        headerTooltip="When the next training is expected to begin, and why",
    ),
    wrapped_column("State", "state", flex=3, minWidth=240),
)


class SelectedPair(TypedDict):
    """The field of a selected row that the buttons read."""

    pair: Pair


class PairRow(SelectedPair):
    """A row of the table. `trained` and `due` are empty for a pair that is not trained."""

    plan: str
    replicas: str
    trained: str
    due: str
    due_ms: int
    state: str


def layout() -> Component:
    pair_controls = [
        small_button("Train now", "admin-train"),
        dmc.TextInput(id="admin-park-reason", label="Reason, shown to users", size="sm", w=240),
        small_button("Park", "admin-park"),
        small_button("Unpark", "admin-unpark"),
        small_button("Remove", "admin-remove"),
    ]
    new_pair_controls = [
        dmc.Autocomplete(
            id="admin-new-pair",
            label="Pair",
            placeholder="btc_usdt",
            data=[],
            limit=_OFFERED_PAIRS,
            filter=PAIRS_BY_START,
            size="sm",
            w=180,
        ),
        dmc.Select(
            id="admin-pair-plan",
            label="Serving plan",
            data=list(pairs_table.SERVING_PLANS),
            value="dedicated",
            allowDeselect=False,
            size="sm",
            w=140,
        ),
        small_button("Add or update", "admin-put-pair"),
    ]
    return dmc.Stack(
        [
            table("admin-pairs", _COLUMNS, key="pair", rows=4, selectable=True),
            html.Div(id="admin-pairs-notice", role="status"),
            panel(
                dmc.Stack(
                    [dmc.Text("Selected pair", fw=600), dmc.Group(pair_controls, align="end", **submits("admin-park"))]
                )
            ),
            panel(
                dmc.Stack(
                    [
                        dmc.Text("Add or update a pair", fw=600),
                        dmc.Group(new_pair_controls, align="end", **submits("admin-put-pair")),
                    ]
                )
            ),
            confirmation.confirmation("admin-remove-dialog", "Remove the selected pair?", _REMOVAL, action="Remove"),
        ]
    )


def register(app: Dash, services: Services) -> None:
    database, audit = services.database, services.accounts.audit.write

    @app.callback(Output("admin-pairs", "rowData"), Output("admin-pairs", "style"), Input("admin-pairs", "id"))
    @admins_only
    @validated
    def show(_: str) -> tuple[list[PairRow], dict[str, str]]:
        rows = _rows(services)
        return rows, _height(rows)

    confirmation.open_by(app, "admin-remove-dialog", "admin-remove")
    confirmation.register(app, "admin-remove-dialog")

    @app.callback(Output("admin-new-pair", "data"), Input("admin-pairs", "id"))
    @admins_only
    @validated
    def offer_traded_pairs(_: str) -> list[str]:
        try:
            return sorted(listing.traded_pairs(services.settings.exchange_url))
        except MarketUnavailable:  # the reason is shown when a pair is added
            return []

    @app.callback(
        output=[
            Output("admin-pairs-notice", "children"),
            Output("admin-pairs", "rowData", allow_duplicate=True),
            Output("admin-pairs", "style", allow_duplicate=True),
        ],
        inputs=[
            [Input(button, "n_clicks") for button in _BUTTONS],
            State("admin-pairs", "selectedRows"),
            State("admin-park-reason", "value"),
            State("admin-new-pair", "value"),
            State("admin-pair-plan", "value"),
        ],
        prevent_initial_call=True,
        running=[(Output(button, "loading"), True, False) for button in ("admin-train", "admin-put-pair")],
    )
    @admins_only
    @validated
    def change_pair(
        _: list[Clicks], selected: list[SelectedPair] | None, reason: Text, new_pair: Text, plan: Text
    ) -> tuple[Any, ...]:
        button, by = ctx.triggered_id, current_user.name
        if not ctx.triggered[0]["value"]:  # the tab was opened, no button was clicked
            return no_update, no_update, no_update
        name = new_pair if button == "admin-put-pair" else selected[0]["pair"] if selected else None
        if not name:
            return notices.selection_missing("a pair"), no_update, no_update
        try:
            pair = Pair.parse(name)
            match button:
                case "admin-train":
                    notice = _start_training(services.settings, pair)
                    audit(by, "start training", pair)
                case "admin-park":
                    parked = pairs_table.park(database, pair, reason or "")
                    audit(by, "park pair", pair, parked.parked_reason or "")
                    notice = notices.success(f"{pair} is parked: it is not trained or served from the next run on.")
                case "admin-unpark":
                    pairs_table.unpark(database, pair)
                    audit(by, "unpark pair", pair)
                    notice = notices.success(f"{pair} is trained and served again from the next run on.")
                case "admin-remove-dialog-yes":
                    pairs_table.remove(database, pair)
                    audit(by, "remove pair", pair)
                    notice = notices.success(f"{pair} is removed: it is not trained or served from the next run on.")
                case _:
                    is_new = all(item.pair != pair for item in pairs_table.tracked(database))
                    if is_new:
                        listing.check_traded(services.settings.exchange_url, pair)
                    listed = pairs_table.put(database, pair, plan=plan)
                    audit(by, "put pair", listed.pair, listed.plan)
                    by_foundation = is_new and _serve_by_foundation(services, pair)
                    notice = notices.success(
                        f"{pair} has the serving plan {listed.plan}; the foundation forecasts it until it is trained."
                        if by_foundation
                        else f"{pair} has the serving plan {listed.plan} from the next run on."
                    )
        except (InputError, MarketError, AirflowError) as error:
            notice = notices.refusal(error)
        rows = _rows(services)
        return notice, rows, _height(rows)


def _start_training(settings: Settings, pair: Pair) -> Component:
    links: list[Component | str] = []
    with Airflow.from_settings(settings) as airflow:
        for interval in settings.intervals:
            dag_id = dag_of("train_pairs", interval)
            airflow.unpause(dag_id)
            url = f"{settings.airflow_link_url}/dags/{dag_id}/runs/{airflow.trigger(dag_id, {'pairs': [pair]})}"
            links += [dmc.Anchor(f"Open {interval} in Airflow", href=url, target="_blank", inherit=True), ". "]
    return notices.success(f"Training of {pair} was started. ", *links)


def _serve_by_foundation(services: Services, pair: Pair) -> bool:
    """Let the service forecast a new pair by the foundation; False when it does not yet, or there is none."""
    try:
        served = services.client.update_models().by_foundation
    except (ServiceUnavailable, ServiceRefused):
        return False
    return any(Series(pair, interval).name in served for interval in services.settings.intervals)


def _height(rows: Sequence[PairRow]) -> dict[str, str]:
    lines = sum(max(1 + (len(row["state"]) > _LONG_STATE), _lines(row["due"]), _lines(row["trained"])) for row in rows)
    return height_of(lines, limit=_MAX_VISIBLE_ROWS)


def _lines(text: str) -> int:
    """Return about how many lines a text about trainings takes in its cell."""
    return sum(-(-len(line) // _CHARACTERS) for line in text.splitlines())


def _rows(services: Services) -> list[PairRow]:
    dues: dict[Pair, list[DueTraining]] = {}
    for due in due_trainings(services.database, services.settings, time.time_ns() // 1_000_000):
        dues.setdefault(due.pair, []).append(due)
    return [_row(item, dues.get(item.pair, [])) for item in pairs_table.tracked(services.database)]


def _row(item: TrackedPair, dues: Sequence[DueTraining]) -> PairRow:
    """Return the row of a pair; its trainings have a line for each interval if there are several."""
    names = [f"{due.interval}: " if len(dues) > 1 else "" for due in dues]
    trained = [_last_training(due) for due in dues]
    return {
        "pair": item.pair,
        "plan": item.plan,
        "replicas": f"{item.min_replicas} to {item.max_replicas}",
        "trained": "\n".join(name + text for name, text in zip(names, trained, strict=True)),
        "due": "\n".join(f"{name}{utc_time(due.due_ms)}, {due.why}" for name, due in zip(names, dues, strict=True)),
        "due_ms": min((due.due_ms for due in dues), default=0),
        "state": item.state,
    }


def _last_training(due: DueTraining) -> str:
    """Write when a pair was trained, and why a newer try failed: "Train now" tries again."""
    trained = utc_time(due.trained_ms) if due.trained_ms else "never"
    failed = f"; failed {utc_time(due.failed_ms)}" if due.failed_ms else ""
    return trained + failed + (f": {shorten(due.failure, _FAILURE_CHARACTERS)}" if due.failure else "")
