"""Forecasts: the distribution of one pair's next close, with the record of its model."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, no_update
from dash.development.base_component import Component
from pydantic import Field
from typing_extensions import TypedDict

from dash_app.components import notices
from dash_app.components.figures import forecast_figure
from dash_app.components.forecast_summary import badges, headline, warnings
from dash_app.components.formatting import pair_label
from dash_app.components.layout import graph, page, pair_in_query, pair_select
from dash_app.pages import Services
from dash_app.security.validation import Clicks, Text, validated
from make_us_rich.client import Client, ServiceRefused, ServiceUnavailable
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.database import scores
from make_us_rich.documents import QUANTILE_NAMES, Forecast, PastForecast

_CANDLES, _CANDLES_ON_PHONE = 48, 20
_HISTORY = 168  # past forecasts that the badge of served forecasts counts: a week of hours
_PHONE_PX = 700
_CHAMPION = "champion"
OtherModel = Literal["previous", "foundation", "naive"]
_OTHER_MODELS = {"previous": "Previous model", "foundation": "Foundation model", "naive": "Naive forecast"}
# The page refreshes shortly after the next close, and once a minute so that an outage shows.
_AFTER_CLOSE_MS, _MAX_REFRESH_MS, _MIN_REFRESH_MS = 5_000, 60_000, 10_000
_HALF_OF_A_PHONE: dict[str, object] = {"base": "calc(50vw - 24px)", "sm": 200}
_EMPTY_FIGURE = {"layout": {"xaxis": {"visible": False}, "yaxis": {"visible": False}, "paper_bgcolor": "rgba(0,0,0,0)"}}
_DISCLAIMER = (
    "Each band contains the next close with the stated probability, if the market behaves as it did in the training "
    "period. A forecast is not advice to buy or sell."
)


class Choice(TypedDict):
    """The selected pair, and the width of the window in pixels."""

    pair: Pair | None
    width: Annotated[float, Field(allow_inf_nan=False)]


def layout() -> Component:
    return page(
        "Forecasts",
        dmc.Box(id="forecast", children=dmc.Skeleton(h=140)),
        dmc.Stack(
            [
                # The empty chart is there from the start, so that Plotly loads while the forecast is fetched.
                dmc.Paper(
                    graph(_EMPTY_FIGURE, id="chart", style={"minHeight": 420}),
                    withBorder=True,
                    p="xs",
                    radius="md",
                    mih=440,
                ),
                dmc.Text(_DISCLAIMER, size="sm", c="dimmed"),
                dmc.Group(
                    [
                        dmc.Button("Download CSV", id="csv", variant="default", size="compact-sm"),
                        dmc.Button("Download PNG", id="png", variant="default", size="compact-sm"),
                    ],
                    gap="xs",
                ),
            ],
            id="chart-section",
            gap="sm",
        ),
        dcc.Download(id="csv-file"),
        dcc.Interval(id="refresh", interval=_MIN_REFRESH_MS),
        dcc.Store(id="shown"),
        dcc.Store(id="choice"),
        controls=dmc.Group([_model_select(), pair_select("pair", label="pair", width=_HALF_OF_A_PHONE)], gap="xs"),
    )


def _model_select() -> Component:
    return dmc.MultiSelect(
        id="compare",
        data=[{"value": name, "label": label} for name, label in _OTHER_MODELS.items()],
        value=[],
        placeholder="Compare with",
        clearable=True,
        w=_HALF_OF_A_PHONE,
        attributes={"input": {"aria-label": "models to compare with the champion"}},
    )


def register(app: Dash, services: Services) -> None:
    client, database = services.client, services.database
    pool = ThreadPoolExecutor(8)

    @app.callback(
        Output("pair", "data"),
        Output("pair", "value"),
        Input("refresh", "n_intervals"),
        State("pair", "value"),
        State("pair", "data"),
        State("location", "search"),
    )
    @validated
    def offer_pairs(_: Clicks, selected: Text, known: list[dict[str, str]] | None, search: Text) -> tuple[Any, Any]:
        try:
            pairs = client.pairs()
        except (ServiceUnavailable, ServiceRefused):
            return no_update, no_update
        in_query = pair_in_query(search)
        wanted = in_query if in_query in pairs and not known else selected
        offered = [{"value": pair, "label": pair_label(pair)} for pair in pairs]
        value = wanted if wanted in pairs else (pairs[0] if pairs else None)
        if offered == known:
            return no_update, (no_update if value == selected else value)
        return offered, value  # the value too when it stays: without options the browser could not select it

    app.clientside_callback(
        """(pair) => {
            if (pair && location.pathname === "/") history.replaceState(null, "", `/?pair=${pair}`);
            return {pair: pair ?? null, width: window.innerWidth};
        }""",
        Output("choice", "data"),
        Input("pair", "value"),
    )

    @app.callback(
        Output("forecast", "children"),
        Output("chart", "figure"),
        Output("chart-section", "display"),
        Output("shown", "data"),
        Output("refresh", "interval"),
        Input("choice", "data"),
        Input("compare", "value"),
        Input("refresh", "n_intervals"),
        State("shown", "data"),
        prevent_initial_call=True,  # the first call comes with the choice
    )
    @validated
    def show(
        choice: Choice | None, others: list[OtherModel] | None, _: Clicks, shown: list[Any] | None
    ) -> tuple[Any, ...]:
        pair, width = (choice["pair"], choice["width"]) if choice else (None, 0)
        try:
            if pair is None:
                notice = no_update if client.pairs() else notices.no_forecast_yet()
                return notice, no_update, "none", None, _MIN_REFRESH_MS
            forecast = client.forecast(pair)
            now_shown = [choice, others, forecast.as_of_ms, forecast.model.version, forecast.flags.stale]
            if now_shown == shown:  # nothing new: a redraw would reset the reader's zoom
                return no_update, no_update, no_update, no_update, _refresh_ms(forecast)
            answers = {name: pool.submit(client.forecast, pair, name) for name in set(others or [])}
            history = pool.submit(client.history, pair, _HISTORY)
            is_phone = width < _PHONE_PX
            candles = client.candles(pair, _CANDLES_ON_PHONE if is_phone else _CANDLES)
            forecasts, missing = {_CHAMPION: forecast}, []
            for name, answer in answers.items():
                try:
                    forecasts[name] = answer.result()
                except ServiceRefused as error:
                    missing.append(str(error))
            past = history.result()
        except (ServiceUnavailable, ServiceRefused) as error:
            return notices.service_error(error), no_update, "none", None, _MIN_REFRESH_MS
        interval = Interval(forecast.interval)
        score = scores.latest(database, market=forecast.market, interval=interval).get(pair)
        summary = [*warnings(forecast, score, missing), headline(forecast), badges(forecast, past, score)]
        figure = forecast_figure(candles, forecasts, past, narrow=is_phone)
        return dmc.Stack(summary, gap="sm"), figure, "flex", now_shown, _refresh_ms(forecast)

    _register_downloads(app, client)


def _register_downloads(app: Dash, client: Client) -> None:
    @app.callback(
        Output("csv-file", "data"),
        Input("csv", "n_clicks"),
        State("pair", "value"),
        prevent_initial_call=True,
        running=[(Output("csv", "loading"), True, False)],
    )
    @validated
    def download_csv(clicks: Clicks, pair: Pair | None) -> Any:
        if not clicks or pair is None:
            return no_update
        try:
            content = _csv(client.forecast(pair), client.history(pair, _HISTORY))
        except (ServiceUnavailable, ServiceRefused):
            return no_update
        return {"content": content, "filename": f"{pair}.csv", "type": "text/csv"}

    app.clientside_callback(
        """(clicks, pair) => {
            const plot = document.querySelector("#chart .js-plotly-plot");
            if (clicks && plot) {
                const back = getComputedStyle(document.body).backgroundColor;
                const colours = {paper_bgcolor: back, plot_bgcolor: back};
                const figure = {data: plot.data, layout: {...plot.layout, ...colours}};
                Plotly.downloadImage(figure, {
                    format: "png", filename: pair, scale: 2, width: plot.offsetWidth, height: plot.offsetHeight,
                });
            }
            return window.dash_clientside.no_update;
        }""",
        Output("png", "n_clicks"),
        Input("png", "n_clicks"),
        State("pair", "value"),
        prevent_initial_call=True,
    )


def _refresh_ms(forecast: Forecast) -> int:
    """Return the time until shortly after the next close, within the limits."""
    left_ms = forecast.target_close_ms - time.time_ns() // 1_000_000
    return max(_MIN_REFRESH_MS, min(left_ms + _AFTER_CLOSE_MS, _MAX_REFRESH_MS))


def _csv(forecast: Forecast, past: Sequence[PastForecast]) -> str:
    """Return the next forecast, then the past ones with their actual closes. Prices in the quote currency."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["pair", "target_close_ms", "model_version", "last_close", *QUANTILE_NAMES, "close", "inside_80"])
    writer.writerow(_csv_row(forecast.pair, forecast, forecast.model.version, "", ""))
    for item in past:
        if item.target_open_ms != forecast.target_open_ms:
            writer.writerow(_csv_row(forecast.pair, item, item.model_version, item.close, item.inside_80))
    return file.getvalue()


def _csv_row(pair: str, forecast: Forecast | PastForecast, version: int, *actual: object) -> list[object]:
    return [pair, forecast.target_close_ms, version, forecast.last_close, *forecast.quantiles.prices(), *actual]
