"""The callbacks of the models page."""

from __future__ import annotations

from typing import Any, Literal

from dash import Input, Output, State, no_update
from dash.development.base_component import Component
from flask_login import current_user

from dash_app.callbacks import Callbacks
from dash_app.components import notices
from dash_app.components.formatting import as_sentence, pair_label
from dash_app.components.layout import follow_link, pair_in_query
from dash_app.components.model_history import VersionPoint
from dash_app.components.model_metrics import LOSSES
from dash_app.components.tables import height_of
from dash_app.components.wording import trainings
from dash_app.pages import services
from dash_app.pages.models.layout import ROLLBACK_NOTE, SelectedVersion, VersionRow, detail, history, version_rows
from dash_app.security.validation import Clicks, IntervalName, Remembered, Text
from make_us_rich.client import ServiceRefused, ServiceUnavailable
from make_us_rich.core.errors import RegistryError
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair, Series, foundation_name
from make_us_rich.core.times import current_ms
from make_us_rich.database import pairs as pairs_table
from make_us_rich.pipeline.training_budget import due_trainings
from make_us_rich.registry import promotion
from make_us_rich.registry.client import CHAMPION

_FOUNDATION = "foundation"
ModelChoice = Literal["foundation"] | Pair

callbacks = Callbacks()
callbacks.in_browser(
    "models.rememberChoice",
    Input("models-pair", "value"),
    Input("models-interval", "value"),
    State("models-interval", "data"),
)
follow_link(callbacks, "models-interval")


@callbacks(
    Output("models-pair", "data"),
    Output("models-pair", "value"),
    Input("models-pair", "id"),
    State("models-pair", "value"),
    State("location", "search"),
)
def offer_pairs(_: str, selected: Remembered, search: Text) -> tuple[list[dict[str, str]], str | None]:
    names: list[str] = [item.pair for item in pairs_table.tracked(services().database)]
    options = [{"value": name, "label": pair_label(name)} for name in names]
    options.append({"value": _FOUNDATION, "label": "Foundation model"})
    names.append(_FOUNDATION)
    in_query = pair_in_query(search)
    if in_query and in_query not in names:  # the page says so
        return options, None
    return options, next(name for name in (in_query, selected, names[0]) if name in names)


@callbacks(
    Output("models-grid", "rowData"),
    Output("models-grid", "style"),
    Output("models-grid", "selectedRows"),
    Output("models-notice", "children"),
    Input("models-pair", "value"),
    Input("models-interval", "value"),
    State("location", "search"),
)
def show_versions(pair: ModelChoice | None, interval: IntervalName, search: Text) -> tuple[Any, ...]:
    database = services().database
    if pair is None:
        in_query = pair_in_query(search)
        if in_query in {"", _FOUNDATION, *(item.pair for item in pairs_table.tracked(database))}:
            return no_update, no_update, no_update, no_update
        return [], height_of(0), [], notices.not_served(pair_label(in_query), None)
    try:
        rows = version_rows(services().registry, _registered_name(pair, interval))
    except RegistryError as error:
        return [], height_of(0), [], notices.registry_down(error)
    champion = [row for row in rows if CHAMPION in row["alias"].split(", ")]
    notice = notices.inactive(database, pair) or (None if rows else notices.no_model_yet())
    return rows, height_of(len(rows)), champion or rows[:1], notice


@callbacks(Output("models-history", "children"), Input("models-grid", "rowData"))
def show_history(rows: list[VersionRow] | None) -> Component | None:
    points = [
        VersionPoint(row["version"], row["as_of_ms"], row["skill"], row["margin"], row["coverage"], row["decision"])
        for row in rows or []
        if row["skill"] is not None and row["as_of_ms"]
    ]
    return history(points) if points else None


@callbacks(Output("models-due", "children"), Input("models-pair", "value"), Input("models-interval", "value"))
def show_due(pair: ModelChoice | None, interval: IntervalName) -> str:
    found = due_trainings(services().database, services().settings, current_ms())
    due = next((item for item in found if (item.pair, item.interval) == (pair, interval)), None)
    return "" if due is None else trainings(due)


@callbacks(Output("model-detail", "children"), Input("models-grid", "selectedRows"))
def show_version(selected: list[SelectedVersion] | None) -> Component | None:
    if not selected:
        return None
    row, registry = selected[0], services().registry
    try:
        run = registry.run(row["run_id"])
        losses = {metric: registry.metric_history(row["run_id"], metric) for metric in LOSSES}
    except RegistryError as error:
        return notices.registry_down(error)
    return detail(row, run, losses, services().settings)


@callbacks(
    Output("models-notice", "children", allow_duplicate=True),
    Output("models-grid", "rowData", allow_duplicate=True),
    Input("confirm-rollback-yes", "n_clicks"),
    State("models-pair", "value"),
    State("models-interval", "value"),
    prevent_initial_call=True,
    running=[
        (Output("rollback", "loading"), True, False),
        (Output("rollback-note", "children"), "Rolling back: the service loads the model …", ROLLBACK_NOTE),
    ],
    for_admins=True,
)
def roll_back(clicks: Clicks, pair: ModelChoice | None, interval: IntervalName) -> tuple[Any, Any]:
    if not clicks or pair is None:
        return no_update, no_update
    name, by, registry = _registered_name(pair, interval), current_user.name, services().registry
    try:
        decision = promotion.rollback(registry, services().database, name, by=by)
        services().accounts.audit.write(by, "roll back model", name, decision.reason)
        rows = version_rows(registry, name)
    except RegistryError as error:
        return notices.refusal(error), no_update
    try:
        services().client.update_models(wait_for=[name])
        state = "The service has loaded it."
    except (ServiceUnavailable, ServiceRefused) as error:
        state = f"The service has not loaded it yet: {error}"
    return notices.success(f"{as_sentence(decision.reason)} {state}"), rows


def _registered_name(pair: ModelChoice, interval: Interval) -> str:
    return Series(pair, interval).name if isinstance(pair, Pair) else foundation_name(interval)
