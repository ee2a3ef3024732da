"""What is expected of the next candle, how sure that is, and whether to believe it."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, no_update
from dash.development.base_component import Component

from dash_app.figures import clock, forecast_figure, price
from dash_app.pages import notices
from make_us_rich.client import Client, Forecast, ServiceRefused, ServiceUnavailable

_SHOWN_CANDLES = 48
_REFRESH_MS = 30_000
_GRAPH = {"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"]}


def layout() -> Component:
    return dmc.Stack(
        [
            dmc.Group(
                [
                    dmc.Title("Forecasts", order=1, size="h2"),
                    dmc.Select(
                        id="pair",
                        data=[],
                        searchable=True,
                        allowDeselect=False,
                        placeholder="pair",
                        w=180,
                        persistence=True,
                        attributes={"input": {"aria-label": "pair"}},
                    ),
                ],
                justify="space-between",
            ),
            dmc.Box(id="forecast", mih=520, children=dmc.Skeleton(h=520)),
            dcc.Interval(id="tick", interval=_REFRESH_MS),
            dcc.Store(id="shown"),
        ],
        gap="md",
    )


def register(app: Dash, client: Client) -> None:
    @app.callback(
        Output("pair", "data"),
        Output("pair", "value"),
        Input("tick", "n_intervals"),
        State("pair", "value"),
        State("pair", "data"),
    )
    def offer_pairs(_: int | None, chosen: str | None, known: list[Any]) -> tuple[Any, Any]:
        try:
            pairs = client.pairs()
        except (ServiceUnavailable, ServiceRefused):
            return no_update, no_update
        offered = [{"value": pair, "label": pair.replace("_", " / ").upper()} for pair in pairs]
        value = chosen if chosen in pairs else (pairs[0] if pairs else None)
        return (no_update if offered == known else offered), (no_update if value == chosen else value)

    @app.callback(
        Output("forecast", "children"),
        Output("shown", "data"),
        Input("pair", "value"),
        Input("tick", "n_intervals"),
        State("shown", "data"),
    )
    def show(pair: str | None, _: int | None, shown: Any) -> tuple[Any, Any]:
        try:
            if pair is None:
                return (notices.nothing_served_yet() if not client.pairs() else no_update), None
            forecast = client.forecast(pair)
            now_shown = [pair, forecast.as_of_ms, forecast.model.version, forecast.flags.stale]
            if now_shown == shown:  # nothing new: leave the reader's zoom alone
                return no_update, no_update
            return _page(forecast, client), now_shown
        except ServiceUnavailable as error:
            return notices.service_down(str(error)), None
        except ServiceRefused as error:
            return notices.service_refused(str(error)), None


def _page(forecast: Forecast, client: Client) -> Component:
    candles = client.candles(forecast.pair, _SHOWN_CANDLES)
    return dmc.Stack(
        [
            *_warnings(forecast),
            _sentence(forecast),
            _badges(forecast),
            dmc.Paper(
                dcc.Graph(figure=forecast_figure(candles, forecast), config=_GRAPH, id="fan"),
                withBorder=True,
                p="xs",
                radius="md",
            ),
            dmc.Text(
                "The bands hold the next close with the probability that they name, if the next hour is like "
                "the past. They are a forecast of a distribution and no advice to buy or sell.",
                size="sm",
                c="dimmed",
            ),
        ],
        gap="sm",
    )


def _sentence(forecast: Forecast) -> Component:
    quantiles, last = forecast.quantiles, forecast.last_close
    change = quantiles["q50"] / last - 1
    quote = forecast.pair.rpartition("_")[2].upper()
    return dmc.Text(
        [
            f"At {clock(forecast.target_close_ms)} the price closes between ",
            dmc.Text(f"{price(quantiles['q10'])} and {price(quantiles['q90'])} {quote}", span=True, fw=700),
            f" with 80 % probability; the middle is {price(quantiles['q50'])} ({change:+.2%} from now).",
        ],
        size="lg",
    )


def _badges(forecast: Forecast) -> Component:
    model = forecast.model
    skill, coverage = model.skill_vs_naive, model.coverage_80
    badges = [
        _badge(
            "skill",
            "unknown" if skill is None else f"{skill:+.1%} vs naive",
            "gray" if skill is None else ("teal" if skill > 0 else "orange"),
            "Pinball loss saved against “the price stays, as uncertain as ever”, on four weeks that the "
            "model never saw. Above zero is better than naive.",
        ),
        _badge(
            "80 % band",
            "unknown" if coverage is None else f"held {coverage:.0%}",
            "gray" if coverage is None else ("teal" if abs(coverage - 0.8) < 0.05 else "orange"),
            "Share of the same weeks' closes inside the 80 % band. Near 80 % is honest.",
        ),
        _badge(
            "model",
            f"v{model.version} {model.architecture}, {_age(model.age_hours)} old",
            "blue",
            f"{model.name}, trained on candles up to {clock(model.as_of_ms)}.",
        ),
        _badge(
            "prices",
            forecast.market,
            "blue",
            f"Last close {price(forecast.last_close)} at {clock(forecast.as_of_ms)}.",
        ),
    ]
    return dmc.Group(badges, gap="xs")


def _badge(name: str, value: str, colour: str, explanation: str) -> Component:
    return dmc.Tooltip(
        dmc.Badge(f"{name}: {value}", color=colour, variant="light", size="lg", tt="none", tabIndex=0),
        label=explanation,
        multiline=True,
        w=280,
        events={"hover": True, "focus": True, "touch": True},
    )


def _warnings(forecast: Forecast) -> list[Component]:
    flags = forecast.flags
    told = [
        (
            flags.simulated,
            "Simulated market",
            "These prices are made up for the demo. No exchange trades at them.",
            "grape",
        ),
        (
            flags.stale,
            "Stale",
            "A newer candle or model could not be fetched; this is the last good forecast.",
            "orange",
        ),
        (
            flags.expired,
            "Old model",
            "The model is older than it should ever be. Read the bands with doubt.",
            "red",
        ),
    ]
    return [
        dmc.Alert(text, title=title, color=colour, variant="light", py="xs")
        for is_so, title, text, colour in told
        if is_so
    ]


def _age(hours: float) -> str:
    return f"{hours * 60:.0f} min" if hours < 1 else f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} d"
