"""The callbacks of the forecasts page."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal, NamedTuple

import dash_mantine_components as dmc
from dash import Input, Output, State, no_update
from dash.development.base_component import Component
from pydantic import Field
from typing_extensions import TypedDict

from dash_app.callbacks import Callbacks
from dash_app.components import notices
from dash_app.components.forecast_figure import forecast_figure, horizon_marks
from dash_app.components.forecast_summary import (
    headline,
    horizon_badges,
    last_price,
    model_badges,
    probability_above,
    served_record,
    since_the_last,
    warnings,
)
from dash_app.components.formatting import pair_label
from dash_app.components.layout import follow_link, keep_to_values, pair_in_query
from dash_app.pages import services
from dash_app.pages.forecasts import downloads
from dash_app.pages.forecasts.layout import MIN_REFRESH_MS
from dash_app.security.validation import Clicks, IntervalName, Remembered, Text
from make_us_rich.client import ServiceRefused, ServiceUnavailable
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import SLUG, Pair
from make_us_rich.core.times import current_ms
from make_us_rich.database import forecasts as forecasts_table
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database import scores
from make_us_rich.documents import HORIZON_GRID, HORIZONS, Forecast

_PHONE_PX = 700
# The page refreshes shortly after the next close, and once a minute so that an outage shows.
_AFTER_CLOSE_MS, _MAX_REFRESH_MS = 5_000, 60_000
_POOL = ThreadPoolExecutor(8)

Horizon = Annotated[int, Field(ge=1, le=HORIZONS)] | None


class Choice(TypedDict):
    """The selected pair, interval and number of candles, and the width of the window in pixels."""

    pair: Pair | None
    interval: IntervalName
    span: Literal[24, 48, 168]
    width: Annotated[float, Field(allow_inf_nan=False)]


class Key(TypedDict):
    """Which forecast the page shows. key: of `ShownForecasts`."""

    pair: Pair
    interval: IntervalName
    key: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Shown(TypedDict):
    """What the page shows. drawn: see `_fingerprint`; answered_ms: when the service last answered."""

    pair: Pair
    interval: IntervalName
    drawn: str
    answered_ms: Annotated[int, Field(ge=0, le=2**53)]


class Drawn(NamedTuple):
    """The outputs of `show`. What is not named stays as it is."""

    notice: Any = no_update
    model_badges: Any = no_update
    drawing: Any = no_update
    key: Any = no_update
    display: Any = no_update
    shown: Any = no_update
    refresh_ms: int = MIN_REFRESH_MS
    since: Any = no_update
    outage: Any = no_update


callbacks = Callbacks(downloads.callbacks)
# Two callbacks: one with both inputs would wait for the drawing.
for _changed, _known in (("choice", "drawing"), ("drawing", "choice")):
    callbacks.in_browser(
        "forecasts.wait",
        Output("waiting", "children", allow_duplicate=True),
        Output("forecast", "className", allow_duplicate=True),
        Output("chart-section", "className", allow_duplicate=True),
        Input(_changed, "data"),
        State(_known, "data"),
        prevent_initial_call=True,
    )
callbacks.in_browser(
    "forecasts.choose",
    Output("choice", "data"),
    Output("above", "value"),
    Output("above", "rightSection"),
    Input("pair", "value"),
    Input("interval", "value"),
    Input("span", "value"),
    Input("span-phone", "value"),
    State("above", "value"),
    State("interval", "data"),
)
follow_link(callbacks, "interval")
for _control in ("horizon", "span", "span-phone"):
    keep_to_values(callbacks, _control)
callbacks.in_browser(
    "forecasts.labelCandles",
    Output("horizon", "marks"),
    Output("horizon", "label"),
    Output("span", "data"),
    Output("span-phone", "data"),
    Input("interval", "value"),
    State("candle-labels", "data"),
)
callbacks.in_browser(
    "forecasts.countDown", Output("countdown", "children"), Input("second", "n_intervals"), Input("drawing", "data")
)
callbacks.in_browser(
    "forecasts.draw",
    Output("chart", "figure"),
    Input("drawing", "data"),
    Input("horizon", "value"),
    Input("reset", "n_clicks"),
    Input("chart", "relayoutData"),
    State("chart", "figure"),
)


@callbacks(
    Output("pair", "data"),
    Output("pair", "value"),
    Input("refresh", "n_intervals"),
    Input("interval", "value"),
    State("pair", "value"),
    State("pair", "data"),
    State("location", "search"),
)
def offer_pairs(
    _: Clicks, interval: IntervalName, selected: Remembered, known: list[dict[str, str]] | None, search: Text
) -> tuple[Any, Any]:
    try:
        pairs = services().client.pairs(interval)
    except (ServiceUnavailable, ServiceRefused):
        return no_update, no_update
    in_query = pair_in_query(search)
    wanted = (in_query if not known else None) or selected
    offered = [{"value": str(pair), "label": pair_label(pair)} for pair in pairs]
    value: str | None = wanted or (pairs[0] if pairs else None)
    if wanted and wanted not in pairs:
        if _is_pair(wanted):  # stays chosen, and the page says why it has no forecast
            offered.append({"value": wanted, "label": pair_label(wanted)})
        else:
            value = None
    if offered == known:
        return no_update, (no_update if value == selected else value)
    return offered, value  # the value too when it stays: without options the browser could not select it


@callbacks(
    Output("forecast", "children"),
    Output("model-badges", "children"),
    Output("drawing", "data"),
    Output("forecast-key", "data"),
    Output("chart-section", "display"),
    Output("shown", "data"),
    Output("refresh", "interval"),
    Output("since", "children"),
    Output("outage", "children"),
    Input("choice", "data"),
    Input("compare", "value"),
    Input("refresh", "n_intervals"),
    State("shown", "data"),
    State("location", "search"),
    prevent_initial_call=True,  # the first call comes with the choice
)
def show(
    choice: Choice | None, others: list[downloads.OtherModel] | None, _: Clicks, shown: Shown | None, search: Text
) -> Drawn:
    if choice is None:
        return Drawn()
    pair, interval = choice["pair"], choice["interval"]
    try:
        if pair is None:
            notice = _without_a_pair(pair_in_query(search), interval)
            return Drawn(notice=notice, display="none", shown=None, outage=None)
        forecast = services().client.forecast(pair, interval=interval)
        key = services().shown.keep(forecast)
        now_shown: Shown = {
            "pair": pair,
            "interval": interval,
            "drawn": _fingerprint(choice, others, key),
            "answered_ms": current_ms(),
        }
        if shown is not None and now_shown["drawn"] == shown["drawn"]:
            return Drawn(shown=now_shown, refresh_ms=_refresh_ms(forecast), outage=None)
        drawn = _draw(choice, others or [], forecast)
    except (ServiceUnavailable, ServiceRefused) as error:
        return _unanswered(error, pair, interval, shown)
    return drawn._replace(key={"pair": pair, "interval": interval, "key": key}, shown=now_shown)


def _draw(choice: Choice, others: Sequence[downloads.OtherModel], forecast: Forecast) -> Drawn:
    """Read what belongs to a forecast, and draw the page. Raises ServiceUnavailable or ServiceRefused."""
    client, database = services().client, services().database
    market, interval = forecast.market, Interval(forecast.interval)
    compared = _POOL.submit(downloads.with_others, client, forecast, others)
    history = _POOL.submit(client.history, forecast.pair, downloads.HISTORY, interval=forecast.interval)
    candles = client.candles(forecast.pair, choice["span"], forecast.interval)
    (forecasts, missing), past = compared.result(), history.result()
    score = scores.latest(database, market=market, interval=interval).get(forecast.pair)
    versions = forecasts_table.served_versions(
        database, market=market, pair=forecast.pair, interval=interval, as_of_ms=forecast.as_of_ms
    )
    is_phone = choice["width"] < _PHONE_PX
    drawing = {
        "figure": forecast_figure(candles, forecasts, past, narrow=is_phone),
        "marks": horizon_marks(list(forecasts.values()), narrow=is_phone),
        "pair": forecast.pair,
        "interval": forecast.interval,
        "next_close_ms": forecast.target_close_ms,
        "name": downloads.file_name(forecast),
        "title": downloads.picture_title(forecast),
    }
    said = [*notices.new_model(forecast, versions), *warnings(forecast, score, missing)]
    return Drawn(
        notice=dmc.Stack(said, gap="sm"),
        model_badges=model_badges(forecast, past, score),
        drawing=drawing,
        display="flex",
        refresh_ms=_refresh_ms(forecast),
        since=since_the_last(forecast, past),
        outage=None,
    )


def _unanswered(
    error: ServiceUnavailable | ServiceRefused, pair: Pair | None, interval: Interval, shown: Shown | None
) -> Drawn:
    """Say why there is no forecast. What the page shows of the same pair stays."""
    if pair is not None and not _is_served(pair, interval):
        notice = _why_not_served(pair)
    elif shown is not None and (shown["pair"], shown["interval"]) == (pair, interval):
        return Drawn(outage=notices.service_error(error, since_ms=shown["answered_ms"]))
    else:
        notice = notices.service_error(error)
    return Drawn(notice=notice, drawing=None, display="none", shown=None, outage=None)


@callbacks(
    Output("reading", "children"),
    Output("last-price", "children"),
    Output("horizon-badges", "children"),
    Output("probability", "children"),
    Output("horizon-row", "display"),
    Input("forecast-key", "data"),
    Input("horizon", "value"),
    Input("above", "value"),
    prevent_initial_call=True,
)
def read_out(key: Key | None, horizon: Horizon, above: Text) -> tuple[Any, ...]:
    forecast = _shown_forecast(key)
    if forecast is None:
        return (no_update,) * 5
    item = forecast.horizons[min(horizon or 1, len(forecast.horizons)) - 1]
    return (
        headline(forecast, item),
        last_price(forecast),
        horizon_badges(forecast, item),
        probability_above(forecast, item, above or ""),
        "flex" if len(forecast.horizons) > 1 else "none",
    )


@callbacks(
    Output("served-record", "children"),
    Input("forecast-key", "data"),
    Input("horizon", "value"),
    prevent_initial_call=True,
)
def show_served_record(key: Key | None, horizon: Horizon) -> Any:
    forecast = _shown_forecast(key)
    if forecast is None:
        return no_update
    ahead = min(horizon or 1, len(forecast.horizons))
    scored = max(each for each in HORIZON_GRID if each <= ahead)
    return served_record(services().records.record(forecast.pair, Interval(forecast.interval), scored))


@callbacks(Output("parked", "children"), Input("pair", "value"), Input("refresh", "n_intervals"))
def show_parked(pair: Text, _: Clicks) -> Any:
    """Say that a pair is parked or off, and still served until the next deployment."""
    return notices.inactive(services().database, pair) if pair else None


def _shown_forecast(key: Key | None) -> Forecast | None:
    """Return the forecast that the page shows; the newest of its pair if the dashboard was started anew since."""
    if key is None:
        return None
    try:
        return services().shown.get(key["key"]) or services().client.forecast(key["pair"], interval=key["interval"])
    except (ServiceUnavailable, ServiceRefused):
        return None


def _without_a_pair(in_query: str, interval: Interval) -> Any:
    if in_query and not _is_pair(in_query):
        return notices.not_served(in_query, None)
    return no_update if services().client.pairs(interval) else notices.no_forecast_yet(interval)


def _is_pair(text: str) -> bool:
    return re.fullmatch(SLUG, text) is not None


def _fingerprint(choice: Choice, others: list[downloads.OtherModel] | None, key: str) -> str:
    """Return a text that changes when the page has to be drawn anew. key: of the forecast."""
    return hashlib.sha256(json.dumps([choice, others, key]).encode()).hexdigest()


def _is_served(pair: Pair, interval: Interval) -> bool:
    """Return False only if the service says that it does not serve the pair."""
    try:
        return pair in services().client.pairs(interval)
    except (ServiceUnavailable, ServiceRefused):
        return True


def _why_not_served(pair: Pair) -> Component:
    tracked = {item.pair: item for item in pairs_table.tracked(services().database)}
    return notices.not_served(pair_label(pair), tracked.get(pair))


def _refresh_ms(forecast: Forecast) -> int:
    """Return the time until shortly after the next close, within the limits."""
    left_ms = forecast.target_close_ms - current_ms()
    return max(MIN_REFRESH_MS, min(left_ms + _AFTER_CLOSE_MS, _MAX_REFRESH_MS))
