"""The Pairs tab of the Admin page: which pairs are trained and served, and how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import Input, Output, State, ctx, dcc, no_update
from dash.development.base_component import Component
from flask_login import current_user
from typing_extensions import TypedDict

from dash_app.callbacks import Callbacks
from dash_app.components import notices
from dash_app.components.confirmation import confirmation, opens
from dash_app.components.entries import pair_slug
from dash_app.components.formatting import as_sentence
from dash_app.components.layout import PAIRS_BY_START, small_button, submits
from dash_app.components.row_actions import RowActions, dialog
from dash_app.components.tables import height_of, text_column, wrapped_column
from dash_app.components.wording import last_training, next_training
from dash_app.pages import services
from dash_app.security.validation import Clicks, Text
from make_us_rich.client import ServiceRefused, ServiceUnavailable
from make_us_rich.core.errors import InputError, MarketUnavailable
from make_us_rich.core.pair import Pair, Series
from make_us_rich.core.times import current_ms
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pairs import TrackedPair
from make_us_rich.market import listing
from make_us_rich.pipeline.airflow import Airflow, dag_of
from make_us_rich.pipeline.training_budget import DueTraining, due_trainings

callbacks = Callbacks()
_ROWS = RowActions("admin-pairs", "admin-pair-dialog")
TAB = "Pairs"
_REFRESH_MS = 30_000
_MAX_VISIBLE_ROWS = 10
_LONG_STATE = 60  # characters: a longer one has a second line
_CHARACTERS = 26  # of a line in the columns of trainings
_OFFERED_PAIRS = 30  # of those that match what was typed
_REMOVAL = (
    "It is neither trained nor served any more. Its models, candles and forecasts stay. The setting of the "
    "first pairs, MUR_PAIRS, adds a pair that it names again when the installation is prepared again."
)
_REMOVE = "admin-remove-dialog-yes"
_BUTTONS = ("admin-train", "admin-park", "admin-unpark", "admin-set-pair-plan")
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
    train = dmc.Group([small_button("Train now", "admin-train"), small_button("Unpark", "admin-unpark")])
    plan = dmc.Group([_plan_select("admin-pair-plan"), small_button("Set plan", "admin-set-pair-plan")], align="end")
    reason = dmc.TextInput(id="admin-park-reason", label="Reason, shown to users", size="sm", w=240)
    park = [reason, small_button("Park", "admin-park")]
    notice, table, row_dialog = _ROWS.layout(
        _COLUMNS,
        "pair",
        dmc.Text(id="admin-pair-state", size="sm", c="dimmed"),
        train,
        plan,
        dmc.Group(park, id="admin-park-form", align="end", **submits("admin-park")),
        dmc.Group([small_button("Remove…", "admin-remove", **opens("admin-remove-dialog"))]),
        label="pair",
        empty="No pairs yet: add one.",
    )
    return dmc.Stack(
        [
            dmc.Group([small_button("Add a pair…", "admin-add-pair", **opens("admin-new-pair-dialog"))]),
            notice,
            dcc.Interval(id="admin-pairs-refresh", interval=_REFRESH_MS),  # the tab's content is there while it is open
            table,
            dialog("admin-new-pair-dialog", "Add a pair", _new_pair_form()),
            row_dialog,
            confirmation("admin-remove-dialog", "Remove the pair?", action="Remove"),
        ]
    )


def _new_pair_form() -> Component:
    field = dmc.Autocomplete(
        id="admin-new-pair",
        label="Pair",
        placeholder="btc_usdt",
        data=[],
        limit=_OFFERED_PAIRS,
        filter=PAIRS_BY_START,
        size="sm",
        w=180,
    )
    controls = [field, _plan_select("admin-new-pair-plan"), small_button("Add", "admin-put-pair")]
    return dmc.Group(controls, align="end", **submits("admin-put-pair"))


def _plan_select(select_id: str) -> Component:
    return dmc.Select(
        id=select_id,
        label="Serving plan",
        data=list(pairs_table.SERVING_PLANS),
        value="dedicated",
        allowDeselect=False,
        size="sm",
        w=140,
    )


@callbacks(
    Output("admin-pairs", "rowData"),
    Output("admin-pairs", "style"),
    Input("admin-pairs-refresh", "n_intervals"),
    Input("admin-tabs", "value"),
    State("admin-pair-dialog", "opened"),
    State("admin-remove-dialog", "opened"),
    for_admins=True,
)
def show(_: Clicks, tab: Text, is_choosing: bool | None, is_removing: bool | None) -> Any:
    if tab != TAB or is_choosing or is_removing:  # new rows would reset what is entered in a dialog
        return no_update, no_update
    return _draw()


@callbacks(Output("admin-new-pair", "data"), Input("admin-pairs", "id"), for_admins=True)
def offer_traded_pairs(_: str) -> list[str]:
    try:
        return sorted(listing.traded_pairs(services().settings.exchange_url))
    except MarketUnavailable:  # the reason is shown when a pair is added
        return []


@callbacks(
    Output("admin-pair-dialog-title", "children"),
    Output("admin-pair-state", "children"),
    Output("admin-remove-dialog-text", "children"),
    Output("admin-pair-plan", "value"),
    Output("admin-train", "display"),
    Output("admin-unpark", "display"),
    Output("admin-park-form", "display"),
    Input("admin-pairs", "selectedRows"),
    prevent_initial_call=True,
    for_admins=True,
)
def select(selected: list[SelectedPair] | None) -> Any:
    names = [row["pair"] for row in selected or []]
    item = next((item for item in pairs_table.tracked(services().database) if item.pair in names), None)
    if item is None:
        return (no_update,) * 7
    is_parked = item.parked_at is not None
    return (
        item.pair,
        as_sentence(item.state),
        f"{item.pair}: {_REMOVAL}",
        item.plan,
        None if item.active else "none",
        None if is_parked else "none",
        "none" if is_parked else None,
    )


@callbacks(
    output=_ROWS.outputs(),
    inputs=[
        [Input(button, "n_clicks") for button in (*_BUTTONS, "admin-remove-dialog-yes")],
        State("admin-pairs", "selectedRows"),
        State("admin-park-reason", "value"),
        State("admin-pair-plan", "value"),
    ],
    prevent_initial_call=True,
    running=[(Output(button, "loading"), True, False) for button in _BUTTONS],
    for_admins=True,
)
def change_pair(_: list[Clicks], selected: list[SelectedPair] | None, reason: Text, plan: Text) -> Any:
    button = ctx.triggered_id
    if not selected or not ctx.triggered[0]["value"]:  # the tab was opened, no button was clicked
        return (no_update,) * 5
    pair = selected[0]["pair"]
    return _ROWS.run(lambda: _change(button, pair, reason, plan), _draw)


@callbacks(
    output=_ROWS.outputs("admin-new-pair-dialog"),
    inputs=[
        Input("admin-put-pair", "n_clicks"),
        State("admin-new-pair", "value"),
        State("admin-new-pair-plan", "value"),
    ],
    prevent_initial_call=True,
    running=[(Output("admin-put-pair", "loading"), True, False)],
    for_admins=True,
)
def add_pair(clicks: Clicks, name: Text, plan: Text) -> Any:
    return _ROWS.run(lambda: _add(name or "", plan), _draw) if clicks else (no_update,) * 5


def _change(button: str, pair: Pair, reason: Text, plan: Text) -> Component:
    """Do what a button of a pair's dialog says. Raises InputError or AirflowError."""
    database, by, audit = services().database, current_user.name, services().accounts.audit.write
    match button:
        case "admin-train":
            notice = _start_training(pair)
            audit(by, "start training", pair)
            return notice
        case "admin-park":
            parked = pairs_table.park(database, pair, reason or "")
            audit(by, "park pair", pair, parked.parked_reason or "")
            done = f"{pair} is parked: it is no longer trained."
        case "admin-unpark":
            pairs_table.unpark(database, pair)
            audit(by, "unpark pair", pair)
            done = f"{pair} is trained again."
        case "admin-set-pair-plan":
            done = _put(pair, plan)
        case _:
            pairs_table.remove(database, pair)
            audit(by, "remove pair", pair)
            done = f"{pair} is removed: it is no longer trained."
    return notices.success(f"{done} {_deploy(pair)}")


def _add(name: str, plan: Text) -> Component:
    """Add a pair that the exchange trades, or change the plan of a listed one. Raises InputError or MarketError."""
    if not name:
        raise InputError("Enter a pair, such as btc_usdt", field="pair")
    pair = Pair.parse(pair_slug(name))
    if all(item.pair != pair for item in pairs_table.tracked(services().database)):
        listing.check_traded(services().settings.exchange_url, pair)
    return notices.success(f"{_put(pair, plan)} {_deploy(pair)}")


def _put(pair: Pair, plan: Text) -> str:
    listed = pairs_table.put(services().database, pair, plan=plan)
    services().accounts.audit.write(current_user.name, "put pair", listed.pair, listed.plan)
    return f"{pair} has the serving plan {listed.plan}."


def _start_training(pair: Pair) -> Component:
    settings, links = services().settings, list[Component | str]()
    with Airflow.from_settings(settings) as airflow:
        for interval in settings.intervals:
            dag_id = dag_of("train_pairs", interval)
            url = f"{settings.airflow_link_url}/dags/{dag_id}/runs/{airflow.start(dag_id, {'pairs': [pair]})}"
            links += [dmc.Anchor(f"Open {interval} in Airflow", href=url, target="_blank", inherit=True), ". "]
    return notices.success(f"Training of {pair} was started. ", *links)


def _deploy(pair: Pair) -> str:
    """Let the service take over what was changed of a pair; return how it is served now, or when it takes effect."""
    names = {Series(pair, interval).name for interval in services().settings.intervals}
    try:
        updated = services().client.update_models(wait_for=names)
    except (ServiceUnavailable, ServiceRefused) as error:
        return (
            f"The service takes it over when the next training run ends, because it did not now: {as_sentence(error)}"
        )
    if not names.isdisjoint(updated.by_foundation):
        return "The foundation forecasts it until it is trained."
    if not names.isdisjoint(updated.applications):
        return "It is served."
    return "It is served when it is trained." if names & set(updated.without_champion) else "It is no longer served."


def _draw() -> tuple[list[PairRow], dict[str, str]]:
    """Return the rows of the table and its height."""
    dues: dict[Pair, list[DueTraining]] = {}
    for due in due_trainings(services().database, services().settings, current_ms()):
        dues.setdefault(due.pair, []).append(due)
    rows = [_row(item, dues.get(item.pair, [])) for item in pairs_table.tracked(services().database)]
    return rows, _height(rows)


def _height(rows: Sequence[PairRow]) -> dict[str, str]:
    lines = sum(max(1 + (len(row["state"]) > _LONG_STATE), _lines(row["due"]), _lines(row["trained"])) for row in rows)
    return height_of(lines, limit=_MAX_VISIBLE_ROWS)


def _lines(text: str) -> int:
    """Return about how many lines a text about trainings takes in its cell."""
    return sum(-(-len(line) // _CHARACTERS) for line in text.splitlines())


def _row(item: TrackedPair, dues: Sequence[DueTraining]) -> PairRow:
    """Return the row of a pair; its trainings have a line for each interval if there are several."""
    names = [f"{due.interval}: " if len(dues) > 1 else "" for due in dues]
    return {
        "pair": item.pair,
        "plan": item.plan,
        "replicas": f"{item.min_replicas} to {item.max_replicas}",
        "trained": "\n".join(name + last_training(due) for name, due in zip(names, dues, strict=True)),
        "due": "\n".join(name + next_training(due) for name, due in zip(names, dues, strict=True)),
        "due_ms": min((due.due_ms for due in dues), default=0),
        "state": item.state,
    }
