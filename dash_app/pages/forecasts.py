"""Forecasts: the distribution of one pair's coming closes, with the record of its model."""

from __future__ import annotations

import hashlib
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component
from flask import abort
from itsdangerous import BadSignature, URLSafeSerializer
from pydantic import Field, ValidationError
from typing_extensions import TypedDict

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
from dash_app.components.layout import aria_label, follow_link, graph, interval_switch, page, pair_in_query, pair_select
from dash_app.pages import Services, forecast_downloads, parked_notice
from dash_app.pages import forecast_controls as controls
from dash_app.pages import forecast_scripts as scripts
from dash_app.security.validation import Clicks, IntervalName, Remembered, Text, validated
from make_us_rich.client import Client, ServiceRefused, ServiceUnavailable
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import SLUG, Pair
from make_us_rich.core.settings import Settings
from make_us_rich.database import forecasts as forecasts_table
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database import scores
from make_us_rich.database.pool import Database
from make_us_rich.documents import HORIZON_GRID, HORIZONS, Forecast

_PHONE_PX = 700
# The page refreshes shortly after the next close, and once a minute so that an outage shows.
_AFTER_CLOSE_MS, _MAX_REFRESH_MS, _MIN_REFRESH_MS = 5_000, 60_000, 10_000
_EMPTY_FIGURE = {"layout": {"xaxis": {"visible": False}, "yaxis": {"visible": False}, "paper_bgcolor": "rgba(0,0,0,0)"}}
_DISCLAIMER = (
    "Each band contains a close with the stated probability, if the market behaves as it did in the training period. "
    "That holds for each close alone, not for all of them together. A forecast is not advice to buy or sell."
)

Horizon = Annotated[int, Field(ge=1, le=HORIZONS)] | None
Signed = Annotated[str, Field(max_length=100_000)] | None


class Choice(TypedDict):
    """The selected pair, interval and number of candles, and the width of the window in pixels."""

    pair: Pair | None
    interval: IntervalName
    span: Literal[24, 48, 168]
    width: Annotated[float, Field(allow_inf_nan=False)]


class Shown(TypedDict):
    """What the page shows. drawn: see `_fingerprint`; answered_ms: when the service last answered."""

    pair: Pair
    interval: IntervalName
    drawn: str
    answered_ms: Annotated[int, Field(ge=0, le=2**53)]


def layout(settings: Settings) -> Component:
    return page(
        "Forecasts",
        html.Div(id="waiting", role="status"),
        html.Div(id="outage", role="status"),  # dashboard.css dims the chart while it says something
        dmc.Box(id="forecast"),
        dmc.Stack(
            [
                parked_notice.box(),
                dmc.Group([dmc.Box(id="last-price"), dmc.Text(id="countdown", c="dimmed")], gap="md", align="baseline"),
                dmc.Box(dmc.Skeleton(h=56), id="reading", **aria_label("forecast"), **controls.LIVE),
                # The empty chart is there from the start, so that Plotly loads while the forecast is fetched.
                dmc.Group([controls.horizon_slider(), controls.chart_controls()], gap="md"),
                dmc.Paper(
                    graph(_EMPTY_FIGURE, id="chart", style={"minHeight": 420}),
                    withBorder=True,
                    p="xs",
                    radius="md",
                    mih=440,
                ),
                dmc.Box(dmc.Skeleton(h=26), id="horizon-badges"),
                dmc.Box(id="since", **controls.LIVE),
                dmc.Box(id="served-record"),
                controls.price_field(),
                dmc.Box(id="model-badges"),
                dmc.Text(_DISCLAIMER, size="sm", c="dimmed"),
                dmc.Group(
                    [
                        dmc.Button("Download CSV", id="csv", variant="default", size="compact-sm"),
                        dmc.Button("Download PNG", id="png", variant="default", size="compact-sm"),
                    ],
                    gap="xs",
                ),
                dmc.Box(id="csv-notice", **controls.LIVE),
            ],
            id="chart-section",
            gap="sm",
        ),
        dcc.Download(id="csv-file"),
        dcc.Interval(id="refresh", interval=_MIN_REFRESH_MS),
        dcc.Interval(id="second", interval=1000),
        dcc.Store(id="shown"),
        dcc.Store(id="choice"),
        dcc.Store(id="drawing"),
        dcc.Store(id="document"),
        controls=dmc.Group(
            [
                interval_switch("interval", settings.intervals),
                controls.model_select(),
                pair_select("pair", label="pair", width=controls.HALF_OF_A_PHONE),
            ],
            gap="xs",
        ),
    )


def register(app: Dash, services: Services) -> None:
    client, database = services.client, services.database
    pool = ThreadPoolExecutor(8)
    signer = URLSafeSerializer(services.settings.needed("secret_key"), salt="forecast")

    @app.callback(
        Output("pair", "data"),
        Output("pair", "value"),
        Input("refresh", "n_intervals"),
        Input("interval", "value"),
        State("pair", "value"),
        State("pair", "data"),
        State("location", "search"),
    )
    @validated
    def offer_pairs(
        _: Clicks, interval: IntervalName, selected: Remembered, known: list[dict[str, str]] | None, search: Text
    ) -> tuple[Any, Any]:
        try:
            pairs = client.pairs(interval)
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

    # Two callbacks: one with both inputs would wait for the drawing.
    for changed, known in (("choice", "drawing"), ("drawing", "choice")):
        app.clientside_callback(
            scripts.WAIT,
            Output("waiting", "children", allow_duplicate=True),
            Output("forecast", "className", allow_duplicate=True),
            Output("chart-section", "className", allow_duplicate=True),
            Input(changed, "data"),
            State(known, "data"),
            prevent_initial_call=True,
        )

    app.clientside_callback(
        scripts.CHOOSE,
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

    follow_link(app, "interval")
    controls.keep_to_known_values(app)
    app.clientside_callback(
        scripts.LABEL_CANDLES,
        Output("horizon", "marks"),
        Output("horizon", "label"),
        Output("span", "data"),
        Output("span-phone", "data"),
        Input("interval", "value"),
    )
    app.clientside_callback(
        scripts.COUNT_DOWN, Output("countdown", "children"), Input("second", "n_intervals"), Input("drawing", "data")
    )

    @app.callback(
        Output("forecast", "children"),
        Output("model-badges", "children"),
        Output("drawing", "data"),
        Output("document", "data"),
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
    @validated
    def show(
        choice: Choice | None,
        others: list[forecast_downloads.OtherModel] | None,
        _: Clicks,
        shown: Shown | None,
        search: Text,
    ) -> tuple[Any, ...]:
        if choice is None:
            return *(no_update,) * 6, _MIN_REFRESH_MS, no_update, no_update
        pair, interval, width = choice["pair"], choice["interval"], choice["width"]
        try:
            if pair is None:
                notice = _without_a_pair(client, pair_in_query(search), interval)
                return notice, no_update, no_update, no_update, "none", None, _MIN_REFRESH_MS, no_update, None
            forecast = client.forecast(pair, interval=interval)
            now_shown: Shown = {
                "pair": pair,
                "interval": interval,
                "drawn": _fingerprint(choice, others, forecast),
                "answered_ms": time.time_ns() // 1_000_000,
            }
            if shown is not None and now_shown["drawn"] == shown["drawn"]:
                return *(no_update,) * 5, now_shown, _refresh_ms(forecast), no_update, None
            compared = pool.submit(forecast_downloads.with_others, client, forecast, others or [])
            history = pool.submit(client.history, pair, forecast_downloads.HISTORY, interval=interval)
            is_phone = width < _PHONE_PX
            candles = client.candles(pair, choice["span"], interval)
            forecasts, missing = compared.result()
            past = history.result()
        except (ServiceUnavailable, ServiceRefused) as error:
            if pair is not None and not _is_served(client, pair, interval):
                notice = _why_not_served(database, pair)
            elif shown is not None and (shown["pair"], shown["interval"]) == (pair, interval):
                outage = notices.service_error(error, since_ms=shown["answered_ms"])
                return *(no_update,) * 6, _MIN_REFRESH_MS, no_update, outage
            else:
                notice = notices.service_error(error)
            return notice, no_update, None, no_update, "none", None, _MIN_REFRESH_MS, no_update, None
        market = forecast.market
        score = scores.latest(database, market=market, interval=interval).get(pair)
        versions = forecasts_table.served_versions(
            database, market=market, pair=pair, interval=interval, as_of_ms=forecast.as_of_ms
        )
        drawing = {
            "figure": forecast_figure(candles, forecasts, past, narrow=is_phone),
            "marks": horizon_marks(list(forecasts.values()), narrow=is_phone),
            "pair": pair,
            "interval": interval,
            "next_close_ms": forecast.target_close_ms,
            "name": forecast_downloads.file_name(forecast),
            "title": forecast_downloads.picture_title(forecast),
        }
        return (
            dmc.Stack([*notices.new_model(forecast, versions), *warnings(forecast, score, missing)], gap="sm"),
            model_badges(forecast, past, score),
            drawing,
            signer.dumps(forecast.model_dump_json()),
            "flex",
            now_shown,
            _refresh_ms(forecast),
            since_the_last(forecast, past),
            None,
        )

    app.clientside_callback(
        scripts.DRAW,
        Output("chart", "figure"),
        Input("drawing", "data"),
        Input("horizon", "value"),
        Input("reset", "n_clicks"),
        Input("chart", "relayoutData"),
        State("chart", "figure"),
    )

    @app.callback(
        Output("reading", "children"),
        Output("last-price", "children"),
        Output("horizon-badges", "children"),
        Output("probability", "children"),
        Output("horizon-row", "display"),
        Input("document", "data"),
        Input("horizon", "value"),
        Input("above", "value"),
        prevent_initial_call=True,
    )
    @validated
    def read_out(document: Signed, horizon: Horizon, above: Text) -> tuple[Any, ...]:
        if document is None:
            return (no_update,) * 5
        forecast = _signed_forecast(signer, document)
        item = forecast.horizons[min(horizon or 1, len(forecast.horizons)) - 1]
        return (
            headline(forecast, item),
            last_price(forecast),
            horizon_badges(forecast, item),
            probability_above(forecast, item, above or ""),
            "flex" if len(forecast.horizons) > 1 else "none",
        )

    @app.callback(
        Output("served-record", "children"),
        Input("document", "data"),
        Input("horizon", "value"),
        prevent_initial_call=True,
    )
    @validated
    def compare_what_was_served(document: Signed, horizon: Horizon) -> Any:
        if document is None:
            return no_update
        forecast = _signed_forecast(signer, document)
        ahead = min(horizon or 1, len(forecast.horizons))
        scored = max(each for each in HORIZON_GRID if each <= ahead)
        return served_record(services.records.record(forecast.pair, Interval(forecast.interval), scored))

    forecast_downloads.register(app, client)
    parked_notice.register(app, database)


def _without_a_pair(client: Client, in_query: str, interval: str) -> Any:
    if in_query and not _is_pair(in_query):
        return notices.not_served(in_query, None)
    return no_update if client.pairs(interval) else notices.no_forecast_yet(interval)


def _is_pair(text: str) -> bool:
    return re.fullmatch(SLUG, text) is not None


def _fingerprint(choice: Choice, others: list[forecast_downloads.OtherModel] | None, forecast: Forecast) -> str:
    """Return a text that changes when the page has to be drawn anew. The browser counts the model's age by itself."""
    document = forecast.model_dump_json(exclude={"model": {"age_hours"}})
    return hashlib.sha256(json.dumps([choice, others, document]).encode()).hexdigest()


def _is_served(client: Client, pair: Pair, interval: str) -> bool:
    """Return False only if the service says that it does not serve the pair."""
    try:
        return pair in client.pairs(interval)
    except (ServiceUnavailable, ServiceRefused):
        return True


def _why_not_served(database: Database, pair: Pair) -> Component:
    tracked = {item.pair: item for item in pairs_table.tracked(database)}
    return notices.not_served(pair_label(pair), tracked.get(pair))


def _refresh_ms(forecast: Forecast) -> int:
    """Return the time until shortly after the next close, within the limits."""
    left_ms = forecast.target_close_ms - time.time_ns() // 1_000_000
    return max(_MIN_REFRESH_MS, min(left_ms + _AFTER_CLOSE_MS, _MAX_REFRESH_MS))


def _signed_forecast(signer: URLSafeSerializer, document: str) -> Forecast:
    """Return the forecast that `show` gave to the browser. Answers 400 if it was changed, or by another version."""
    try:
        return Forecast.model_validate_json(signer.loads(document))
    except (BadSignature, ValidationError):
        abort(400, "This page has expired.")
