"""Overview: the forecasts of all pairs in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, dcc, no_update
from dash.development.base_component import Component
from typing_extensions import TypedDict

from dash_app.components import notices
from dash_app.components.formatting import age, duration, pair_label, price, utc_day, utc_time
from dash_app.components.layout import (
    Column,
    fan_column,
    follow_link,
    half_width_column,
    height_of,
    interval_switch,
    link_column,
    number_column,
    page,
    record_columns,
    table,
    text_column,
    wrapped_column,
)
from dash_app.pages import Services
from dash_app.security.validation import Clicks, IntervalName, validated
from make_us_rich.client import ServiceRefused, ServiceUnavailable
from make_us_rich.core.interval import Interval
from make_us_rich.core.settings import get_settings
from make_us_rich.database import scores
from make_us_rich.database.scores import LatestScore
from make_us_rich.documents import HORIZONS, SCORED_CANDLES, Forecast, Quantiles

_REFRESH_MS = 30_000
_HORIZONS = (1, 8, 24)  # candles ahead that have a column
_FAN_HORIZONS = (1, 2, 4, 6, 8, 12, 16, 20, 24)  # candles ahead that the small picture shows


def _columns(interval: Interval) -> list[Column]:
    scored = duration(SCORED_CANDLES * interval.ms)
    return [
        link_column("Pair", "pair", pinned="left", width=132),
        number_column("Last close", "last_close", text_field="last_close_text", minWidth=108),
        fan_column(
            f"Next {duration(HORIZONS * interval.ms)}",
            "fan",
            minWidth=116,
            headerTooltip="50 % and 80 % bands of the next 24 closes, one scale for all pairs",
        ),
        *(
            half_width_column(
                f"In {duration(horizon * interval.ms)}",
                f"half.{horizon}",
                tooltipField=f"band.{horizon}",
                headerTooltip="Half the width of the 80 % band of that close, as a share of the last close",
            )
            for horizon in _HORIZONS
        ),
        *record_columns(coverage_digits=0),
        text_column(
            "Drift",
            "drift",
            minWidth=84,
            headerTooltip=f"Whether the last {scored} were worse than the model's evaluation",
        ),
        text_column("Model age", "age", minWidth=104, sort_field="age_hours"),
        wrapped_column("Status", "status", minWidth=180, flex=2),
    ]


class OverviewRow(TypedDict, total=False):
    """A row of the table. A pair without a forecast has a status only.

    fan: see `_fan`. By horizon, half: half the width of the 80 % band as a fraction of the last close; band: its ends
    and median as text.
    """

    pair: str
    label: str
    href: str
    status: str
    last_close: float
    last_close_text: str
    fan: str
    half: dict[str, float]
    band: dict[str, str]
    skill: float | None
    coverage: float | None
    drift: str
    age_hours: float
    age: str


def layout() -> Component:
    search = dmc.TextInput(
        id="overview-search",
        placeholder="Filter pairs",
        w=220,
        debounce=200,
        attributes={"input": {"aria-label": "filter pairs"}},
    )
    return page(
        "Overview",
        dmc.Box(id="overview-notice", children=dmc.Skeleton(h=36)),
        table("overview-grid", _columns(get_settings().default_interval), key="pair"),
        dcc.Interval(id="overview-refresh", interval=_REFRESH_MS),
        controls=dmc.Group([interval_switch("overview-interval"), search], gap="xs"),
    )


def register(app: Dash, services: Services) -> None:
    client, database = services.client, services.database

    @app.callback(
        Output("overview-grid", "rowData"),
        Output("overview-grid", "style"),
        Output("overview-notice", "children"),
        Input("overview-refresh", "n_intervals"),
        Input("overview-interval", "value"),
    )
    @validated
    def refresh(_: Clicks, interval: IntervalName) -> tuple[Any, ...]:
        try:
            forecasts, missing = client.forecasts(_FAN_HORIZONS, interval)
        except (ServiceUnavailable, ServiceRefused) as error:
            return no_update, no_update, notices.service_error(error)
        latest: Mapping[str, LatestScore] = {}
        if forecasts:
            latest = scores.latest(database, market=forecasts[0].market, interval=interval)
        scale = max((_reach(forecast) for forecast in forecasts), default=0.0) or 1.0
        rows = [_row(forecast, latest.get(forecast.pair), scale) for forecast in forecasts]
        rows += [_status_row(pair, interval, reason) for pair, reason in missing.items()]
        return rows, height_of(len(rows)), _summary(forecasts, missing, interval)

    follow_link(app, "overview-interval")

    @app.callback(Output("overview-grid", "columnDefs"), Input("overview-interval", "value"))
    @validated
    def name_columns(interval: IntervalName) -> list[Column]:
        return _columns(interval)

    app.clientside_callback(
        """(text, options) => ({...options, quickFilterText: text || ""})""",
        Output("overview-grid", "dashGridOptions"),
        Input("overview-search", "value"),
        Input("overview-grid", "dashGridOptions"),
        prevent_initial_call=True,
    )


def _status_row(pair: str, interval: str, status: str) -> OverviewRow:
    href = f"/?pair={pair}&interval={interval}"
    return {"pair": pair, "label": pair_label(pair), "href": href, "status": status}


def _row(forecast: Forecast, score: LatestScore | None, scale: float) -> OverviewRow:
    last, model = forecast.last_close, forecast.model
    bands = {str(item.horizon): item.quantiles for item in forecast.horizons if item.horizon in _HORIZONS}
    return _status_row(forecast.pair, forecast.interval, _status(forecast)) | {
        "last_close": last,
        "last_close_text": price(last),
        "fan": _fan(forecast, scale),
        "half": {horizon: (band["q90"] - band["q10"]) / 2 / last for horizon, band in bands.items()},
        "band": {horizon: _band(band, last) for horizon, band in bands.items()},
        "skill": model.skill_vs_naive,
        "coverage": model.coverage_80,
        "drift": "–" if score is None else f"yes: {score.reason}" if score.drifted else "no",
        "age_hours": model.age_hours,
        "age": age(model.age_hours),
    }


def _band(quantiles: Quantiles, last_close: float) -> str:
    low, median, high = (f"{quantiles[name] / last_close - 1:+.2%}" for name in ("q10", "q50", "q90"))
    return f"80 % between {low} and {high}, median {median}"


def _reach(forecast: Forecast) -> float:
    """Return how far the 80 % bands reach from the last close, as a fraction of it."""
    ends = (item.quantiles[name] for item in forecast.horizons for name in ("q10", "q90"))
    return max(abs(end / forecast.last_close - 1) for end in ends)


def _fan(forecast: Forecast, scale: float) -> str:
    """Return the corners of the 80 % band and of the 50 % band, as CellFan reads them.

    Right is the time, 0 to 100 for 24 candles; down is the price, from 0 at `scale` above the last close to 100.
    """
    items = [item for item in forecast.horizons if item.horizon in _FAN_HORIZONS]

    def curve(name: str) -> list[str]:
        ends = ((item.horizon, item.quantiles[name] / forecast.last_close - 1) for item in items)
        return ["0,50", *(f"{horizon / 0.24:.0f},{50 - 50 * end / scale:.1f}" for horizon, end in ends)]

    bands = [" ".join([*curve(low), *reversed(curve(high))]) for low, high in (("q10", "q90"), ("q25", "q75"))]
    return "|".join(bands)


def _status(forecast: Forecast) -> str:
    flags, shipped = forecast.flags, forecast.model.shipped
    items = [
        (flags.stale, f"stale, as of {utc_time(forecast.as_of_ms)}"),
        (shipped, f"shipped model, trained up to {utc_day(forecast.model.as_of_ms)}"),
        (flags.expired and not shipped, "expired model"),
        (flags.foundation and not shipped, "foundation model"),
    ]
    return ", ".join(text for is_set, text in items if is_set) or "ok"


def _summary(forecasts: Sequence[Forecast], missing: Mapping[str, str], interval: Interval) -> Component:
    if not forecasts:
        return notices.no_forecast_yet(interval)
    up_to_date = sum(not (forecast.flags.stale or forecast.flags.expired) for forecast in forecasts)
    next_close = utc_time(max(forecast.target_close_ms for forecast in forecasts))
    return dmc.Text(
        f"{up_to_date} of {len(forecasts) + len(missing)} pairs are up to date. "
        f"Next close: {next_close}. Market: {forecasts[0].market}. "
        "± is half the width of the 80 % band.",
        c="dimmed",
        size="sm",
    )
