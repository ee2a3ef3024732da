"""What is expected of the next candle, how sure that is, and whether to believe it."""

from __future__ import annotations

import csv
import io
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal, get_args

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, no_update
from dash.development.base_component import Component
from pydantic import Field
from typing_extensions import TypedDict

from dash_app.components import notices
from dash_app.components.figures import forecast_figure
from dash_app.components.forecast_texts import badges, sentence, warnings
from dash_app.components.formatting import asked_pair, pair_label
from dash_app.security.callbacks import Clicks, PairName, Text, checked
from make_us_rich.client import Client, Forecast, PastForecast, ServiceRefused, ServiceUnavailable
from make_us_rich.database import scores

_SHOWN_CANDLES, _SHOWN_CANDLES_NARROW = 48, 20
_JUDGED = 168  # past forecasts that the hit rate counts: a week of hours
_NARROW_PX = 700
_SERVED = "champion"
OtherModel = Literal["previous", "foundation", "naive"]
# The next close is waited for; a minute is the longest that a page stays silent about an outage.
_AFTER_CLOSE_MS, _LONGEST_MS, _SHORTEST_MS = 5_000, 60_000, 10_000
_HALF_OF_A_PHONE = {"base": "calc(50vw - 24px)", "sm": 200}
_GRAPH = {"displaylogo": False, "displayModeBar": False}
_BLANK = {"layout": {"xaxis": {"visible": False}, "yaxis": {"visible": False}, "paper_bgcolor": "rgba(0,0,0,0)"}}
_ADVICE = (
    "The bands hold the next close with the probability that they name, if the next hour is like the past. "
    "They are a forecast of a distribution and no advice to buy or sell."
)


class Choice(TypedDict):
    """The chosen pair, and the window's width in pixels."""

    pair: PairName | None
    width: Annotated[float, Field(allow_inf_nan=False)]


def layout() -> Component:
    return dmc.Stack(
        [
            dmc.Group(
                [
                    dmc.Title("Forecasts", order=1, size="h2"),
                    dmc.Group(
                        [
                            dmc.MultiSelect(
                                id="beside",
                                data=[{"value": name, "label": name} for name in get_args(OtherModel)],
                                value=[],
                                placeholder="compare models",
                                clearable=True,
                                w=_HALF_OF_A_PHONE,
                                attributes={"input": {"aria-label": "models to show beside the one that serves"}},
                            ),
                            dmc.Select(
                                id="pair",
                                data=[],
                                searchable=True,
                                allowDeselect=False,
                                placeholder="pair",
                                w=_HALF_OF_A_PHONE,
                                persistence=True,
                                attributes={"input": {"aria-label": "pair"}},
                            ),
                        ],
                        gap="xs",
                    ),
                ],
                justify="space-between",
            ),
            dmc.Box(id="forecast", children=dmc.Skeleton(h=140)),
            dmc.Stack(
                [
                    # there from the beginning, so that its script loads while the forecast is fetched
                    dmc.Paper(
                        dcc.Graph(id="fan", config=_GRAPH, className="plot", style={"minHeight": 420}, figure=_BLANK),
                        withBorder=True,
                        p="xs",
                        radius="md",
                        mih=440,
                    ),
                    dmc.Text(_ADVICE, size="sm", c="dimmed"),
                    dmc.Group(
                        [
                            dmc.Button("CSV", id="csv", variant="default", size="compact-sm"),
                            dmc.Button("PNG", id="png", variant="default", size="compact-sm"),
                        ],
                        gap="xs",
                    ),
                ],
                id="picture",
                gap="sm",
            ),
            dcc.Download(id="csv-file"),
            dcc.Interval(id="tick", interval=_SHORTEST_MS),
            dcc.Store(id="shown"),
            dcc.Store(id="chosen"),
        ],
        gap="md",
    )


def register(app: Dash, client: Client, database_url: str) -> None:
    pool = ThreadPoolExecutor(8)

    @app.callback(
        Output("pair", "data"),
        Output("pair", "value"),
        Input("tick", "n_intervals"),
        State("pair", "value"),
        State("pair", "data"),
        State("location", "search"),
    )
    @checked
    def offer_pairs(_: Clicks, chosen: Text, known: list[dict[str, str]] | None, search: Text) -> tuple[Any, Any]:
        try:
            pairs = client.pairs()
        except (ServiceUnavailable, ServiceRefused):
            return no_update, no_update
        asked = asked_pair(search)
        wanted = asked if asked in pairs and not known else chosen
        offered = [{"value": pair, "label": pair_label(pair)} for pair in pairs]
        value = wanted if wanted in pairs else (pairs[0] if pairs else None)
        if offered == known:
            return no_update, (no_update if value == chosen else value)
        return offered, value  # also when it stays: while there was nothing to choose from, it was not chosen

    app.clientside_callback(
        """(pair) => {
            if (pair && location.pathname === "/") history.replaceState(null, "", `/?pair=${pair}`);
            return {pair: pair ?? null, width: window.innerWidth};
        }""",
        Output("chosen", "data"),
        Input("pair", "value"),
    )

    @app.callback(
        Output("forecast", "children"),
        Output("fan", "figure"),
        Output("picture", "display"),
        Output("shown", "data"),
        Output("tick", "interval"),
        Input("chosen", "data"),
        Input("beside", "value"),
        Input("tick", "n_intervals"),
        State("shown", "data"),
        prevent_initial_call=True,  # the first call comes with the choice
    )
    @checked
    def show(
        chosen: Choice | None, beside: list[OtherModel] | None, _: Clicks, shown: list[Any] | None
    ) -> tuple[Any, ...]:
        pair, width = (chosen["pair"], chosen["width"]) if chosen else (None, 0)
        try:
            if pair is None:
                nothing = no_update if client.pairs() else notices.nothing_served_yet()
                return nothing, no_update, "none", None, _SHORTEST_MS
            forecast = client.forecast(pair)
            now_shown = [chosen, beside, forecast.as_of_ms, forecast.model.version, forecast.flags.stale]
            if now_shown == shown:  # nothing new: leave the reader's zoom alone
                return no_update, no_update, no_update, no_update, _pause_ms(forecast)
            others = {name: pool.submit(client.forecast, pair, name) for name in set(beside or [])}
            past = pool.submit(client.history, pair, _JUDGED)
            is_narrow = width < _NARROW_PX
            candles = client.candles(pair, _SHOWN_CANDLES_NARROW if is_narrow else _SHOWN_CANDLES)
            forecasts, missing = {_SERVED: forecast}, []
            for name, answer in others.items():
                try:
                    forecasts[name] = answer.result()
                except ServiceRefused as refused:
                    missing.append(str(refused))
            figure = forecast_figure(candles, forecasts, past.result(), narrow=is_narrow)
        except ServiceUnavailable as error:
            return notices.service_down(str(error)), no_update, "none", None, _SHORTEST_MS
        except ServiceRefused as error:
            return notices.service_refused(str(error)), no_update, "none", None, _SHORTEST_MS
        judged = scores.latest(database_url, market=forecast.market, interval=forecast.interval)
        score = judged.get(pair)
        said = [*warnings(forecast, score, missing), sentence(forecast), badges(forecast, past.result(), score)]
        return dmc.Stack(said, gap="sm"), figure, "flex", now_shown, _pause_ms(forecast)

    @app.callback(
        Output("csv-file", "data"),
        Input("csv", "n_clicks"),
        State("pair", "value"),
        prevent_initial_call=True,
        running=[(Output("csv", "loading"), True, False)],
    )
    @checked
    def export(clicks: Clicks, pair: PairName | None) -> Any:
        if not clicks or pair is None:
            return no_update
        try:
            content = _csv(client.forecast(pair), client.history(pair, _JUDGED))
        except (ServiceUnavailable, ServiceRefused):
            return no_update
        return {"content": content, "filename": f"{pair}.csv", "type": "text/csv"}

    app.clientside_callback(
        """(clicks, pair) => {
            const plot = document.querySelector("#fan .js-plotly-plot");
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


def _pause_ms(forecast: Forecast) -> int:
    """Until shortly after the next close."""
    left_ms = forecast.target_close_ms - time.time_ns() // 1_000_000
    return max(_SHORTEST_MS, min(left_ms + _AFTER_CLOSE_MS, _LONGEST_MS))


def _csv(forecast: Forecast, past: list[PastForecast]) -> str:
    """The next close first, then what was forecast before and what came. Prices in the quote currency."""
    file = io.StringIO()
    writer = csv.writer(file)
    names = list(forecast.quantiles)
    writer.writerow(["pair", "target_close_ms", "model_version", "last_close", *names, "close", "inside_80"])
    before = [item for item in past if item.target_open_ms != forecast.target_open_ms]
    for item in (forecast, *before):
        version = item.model.version if isinstance(item, Forecast) else item.model_version
        came = ["", ""] if isinstance(item, Forecast) else [item.close, item.inside_80]
        levels = [item.quantiles[name] for name in names]
        writer.writerow([forecast.pair, item.target_close_ms, version, item.last_close, *levels, *came])
    return file.getvalue()
