"""Overview: a screener of all pairs. assets/screener.js draws, sorts and filters the rows in the browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import dash_mantine_components as dmc
from dash import Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component
from flask_login import current_user
from pydantic import Field
from typing_extensions import TypedDict

from dash_app.callbacks import Callbacks
from dash_app.components import notices
from dash_app.components.formatting import duration
from dash_app.components.layout import (
    aria_label,
    follow_link,
    interval_switch,
    keep_to_values,
    local_time,
    page,
    remembered,
)
from dash_app.pages import Page, services
from dash_app.pages.overview_rows import READ_HORIZONS, SHOWN_HORIZONS, Closes, screener
from dash_app.security.validation import Clicks, IntervalName
from make_us_rich.client import ServiceRefused, ServiceUnavailable
from make_us_rich.core.interval import Interval
from make_us_rich.core.settings import Settings
from make_us_rich.core.times import current_ms
from make_us_rich.database import scores
from make_us_rich.database.scores import LatestScore
from make_us_rich.documents import Forecast

_REFRESH_MS = 30_000
_FIRST_HORIZON = 8  # candles ahead, until the reader chooses
_LEGEND = {
    "Range": "half of all closes should fall into the dark part of a bar, 80 % into the whole bar. The mark is the "
    "median, the dotted line the last close. All bars have one axis; an arrow marks a bar that goes beyond it.",
    "Expected move": "mean absolute log return until the end of the range.",
    "Volatility": "standard deviation of the log return until then, per year.",
    "Skill": "how much smaller the model's forecast error (pinball loss) was than that of the naive forecast, on weeks "
    "that it was not trained on: the mean over horizons of 1 to 24 candles. Below it, the skill at three of them, with "
    "the 95 % margin of the next close.",
    "Coverage": "share of the next closes inside the 80 % band, on the same weeks.",
    "Model age": "how long ago the newest candle closed that the model was trained on.",
}


class Answered(TypedDict):
    """When the service last answered, and for which interval."""

    interval: IntervalName
    at_ms: Annotated[int, Field(ge=0, le=2**53)]


def layout(settings: Settings) -> Component:
    search = dmc.TextInput(
        id="overview-search",
        placeholder="Filter pairs",
        w=180,
        debounce=200,
        attributes={"input": {"aria-label": "filter pairs"}},
    )
    horizon = dmc.SegmentedControl(
        id="overview-horizon",
        data=_horizon_labels(settings.default_interval),
        value=str(_FIRST_HORIZON),
        **remembered([str(each) for each in SHOWN_HORIZONS], str(_FIRST_HORIZON)),
        **aria_label("horizon of the range"),
    )
    return page(
        "Overview",
        html.Div(
            [dmc.Box(id="overview-notice", children=dmc.Skeleton(h=36)), html.Div(id="overview-shown", role="status")]
        ),
        html.Div(id="overview-table", **{"data-owner": str(current_user.user_id)}),  # type: ignore[arg-type]
        html.Dl(
            [part for term, text in _LEGEND.items() for part in (html.Dt(term), html.Dd(text))], id="overview-legend"
        ),
        dcc.Store(id="overview-data"),
        dcc.Store(id="overview-answered"),
        dcc.Interval(id="overview-refresh", interval=_REFRESH_MS),
        controls=dmc.Group([interval_switch("overview-interval", settings.intervals), horizon, search], gap="xs"),
    )


def _horizon_labels(interval: Interval) -> list[dict[str, str]]:
    return [{"value": str(horizon), "label": duration(horizon * interval.ms)} for horizon in SHOWN_HORIZONS]


callbacks = Callbacks()
follow_link(callbacks, "overview-interval")
keep_to_values(callbacks, "overview-horizon")
callbacks.in_browser(
    "overview.show",  # in assets/screener.js
    Output("overview-shown", "children"),
    Input("overview-data", "data"),
    Input("overview-horizon", "value"),
    Input("overview-search", "value"),
)


@callbacks(
    Output("overview-data", "data"),
    Output("overview-notice", "children"),
    Output("overview-answered", "data"),
    Output("overview-table", "className"),
    Input("overview-refresh", "n_intervals"),
    Input("overview-interval", "value"),
    State("overview-answered", "data"),
)
def refresh(_: Clicks, interval: IntervalName, answered: Answered | None) -> tuple[Any, ...]:
    try:
        forecasts, missing = services().client.forecasts(READ_HORIZONS, interval)
    except (ServiceUnavailable, ServiceRefused) as error:
        if answered is None or answered["interval"] != interval:
            return None, notices.service_error(error), None, ""
        return no_update, notices.service_error(error, since_ms=answered["at_ms"]), no_update, "outdated"
    latest: Mapping[str, LatestScore] = {}
    closes: Closes = {}
    if forecasts:
        latest = scores.latest(services().database, market=forecasts[0].market, interval=interval)
        closes = services().records.last_closes([forecast.pair for forecast in forecasts], interval)
    shown = screener(forecasts, missing, latest, closes, interval)
    now: Answered = {"interval": interval, "at_ms": current_ms()}
    return shown, _summary(forecasts, missing, interval), now, ""


@callbacks(Output("overview-horizon", "data"), Input("overview-interval", "value"))
def name_horizons(interval: IntervalName) -> list[dict[str, str]]:
    return _horizon_labels(interval)


def _summary(forecasts: Sequence[Forecast], missing: Mapping[str, str], interval: Interval) -> Component:
    if not forecasts:
        return notices.no_forecast_yet(interval)
    up_to_date = sum(not (forecast.flags.stale or forecast.flags.expired) for forecast in forecasts)
    return dmc.Text(
        [
            f"{up_to_date} of {len(forecasts) + len(missing)} pairs are up to date. Next close: ",
            local_time(max(forecast.target_close_ms for forecast in forecasts)),
            f". Market: {forecasts[0].market}.",
        ],
        c="dimmed",
        size="sm",
    )


PAGE = Page("/overview", "Overview", layout, callbacks)
