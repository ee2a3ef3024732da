"""Overview: the forecasts of all pairs in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, dcc, no_update
from dash.development.base_component import Component
from typing_extensions import TypedDict

from dash_app.components import notices
from dash_app.components.formatting import age, pair_label, price, utc_time
from dash_app.components.layout import (
    height_of,
    link_column,
    number_column,
    page,
    percent_column,
    record_columns,
    table,
    text_column,
)
from dash_app.pages import Services
from dash_app.security.validation import Clicks, validated
from make_us_rich.client import ServiceRefused, ServiceUnavailable
from make_us_rich.core.interval import Interval
from make_us_rich.database import scores
from make_us_rich.database.scores import LatestScore
from make_us_rich.documents import Forecast

_REFRESH_MS = 30_000
_COLUMNS = (
    link_column("Pair", "pair", pinned="left", width=132),
    number_column("Last close", "last_close", text_field="last_close_text", minWidth=112),
    percent_column("Median", "median", 2, headerTooltip="Median of the next close, compared with the last close"),
    percent_column("80 % low", "low", 2, headerTooltip="Lower end of the 80 % band, compared with the last close"),
    percent_column("80 % high", "high", 2, headerTooltip="Upper end of the 80 % band, compared with the last close"),
    percent_column("Band width", "width", 2, signed=False, headerTooltip="Width of the 80 % band", minWidth=110),
    *record_columns(coverage_digits=0),
    text_column("Drift", "drift", headerTooltip="Whether the last 7 days were worse than the model's evaluation"),
    text_column("Model age", "age", minWidth=112, sort_field="age_hours"),
    text_column("Status", "status", minWidth=140, flex=2),
)


class OverviewRow(TypedDict, total=False):
    """A row of the table; changes are fractions of the last close. A pair without a forecast has a status only."""

    pair: str
    label: str
    href: str
    status: str
    last_close: float
    last_close_text: str
    median: float
    low: float
    high: float
    width: float
    skill: float | None
    coverage: float | None
    drift: str
    age_hours: float
    age: str


def layout() -> Component:
    return page(
        "Overview",
        dmc.Box(id="overview-notice", children=dmc.Skeleton(h=36)),
        table("overview-grid", _COLUMNS, key="pair"),
        dcc.Interval(id="overview-refresh", interval=_REFRESH_MS),
        controls=dmc.TextInput(
            id="overview-search",
            placeholder="Filter pairs",
            w=220,
            debounce=200,
            attributes={"input": {"aria-label": "filter pairs"}},
        ),
    )


def register(app: Dash, services: Services) -> None:
    client, database = services.client, services.database

    @app.callback(
        Output("overview-grid", "rowData"),
        Output("overview-grid", "style"),
        Output("overview-notice", "children"),
        Input("overview-refresh", "n_intervals"),
    )
    @validated
    def refresh(_: Clicks) -> tuple[Any, ...]:
        try:
            forecasts, missing = client.forecasts()
        except (ServiceUnavailable, ServiceRefused) as error:
            return no_update, no_update, notices.service_error(error)
        latest: Mapping[str, LatestScore] = {}
        if forecasts:
            first = forecasts[0]  # all have the same market and interval
            latest = scores.latest(database, market=first.market, interval=Interval(first.interval))
        rows = [_row(forecast, latest.get(forecast.pair)) for forecast in forecasts]
        rows += [_status_row(pair, reason) for pair, reason in missing.items()]
        return rows, height_of(len(rows)), _summary(forecasts, missing)

    app.clientside_callback(
        """(text, options) => ({...options, quickFilterText: text || ""})""",
        Output("overview-grid", "dashGridOptions"),
        Input("overview-search", "value"),
        Input("overview-grid", "dashGridOptions"),
        prevent_initial_call=True,
    )


def _status_row(pair: str, status: str) -> OverviewRow:
    return {"pair": pair, "label": pair_label(pair), "href": f"/?pair={pair}", "status": status}


def _row(forecast: Forecast, score: LatestScore | None) -> OverviewRow:
    quantiles, last, model = forecast.quantiles, forecast.last_close, forecast.model
    return _status_row(forecast.pair, _status(forecast)) | {
        "last_close": last,
        "last_close_text": price(last),
        "median": quantiles["q50"] / last - 1,
        "low": quantiles["q10"] / last - 1,
        "high": quantiles["q90"] / last - 1,
        "width": (quantiles["q90"] - quantiles["q10"]) / last,
        "skill": model.skill_vs_naive,
        "coverage": model.coverage_80,
        "drift": "–" if score is None else f"yes: {score.reason}" if score.drifted else "no",
        "age_hours": model.age_hours,
        "age": age(model.age_hours),
    }


def _status(forecast: Forecast) -> str:
    flags = forecast.flags
    items = [
        (flags.stale, f"stale, as of {utc_time(forecast.as_of_ms)}"),
        (flags.expired, "expired model"),
        (flags.foundation, "foundation model"),
    ]
    return ", ".join(text for is_set, text in items if is_set) or "ok"


def _summary(forecasts: Sequence[Forecast], missing: Mapping[str, str]) -> Component:
    if not forecasts:
        return notices.no_forecast_yet()
    up_to_date = sum(not (forecast.flags.stale or forecast.flags.expired) for forecast in forecasts)
    next_close = utc_time(max(forecast.target_close_ms for forecast in forecasts))
    return dmc.Text(
        f"{up_to_date} of {len(forecasts) + len(missing)} pairs are up to date. "
        f"Next close: {next_close}. Market: {forecasts[0].market}.",
        c="dimmed",
        size="sm",
    )
