"""The components of the forecasts page."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import dcc, html
from dash.development.base_component import Component

from dash_app.components.formatting import duration
from dash_app.components.layout import aria_label, graph, interval_switch, page, pair_select, remembered
from make_us_rich.core.interval import TRAINING_CANDLES
from make_us_rich.core.settings import Settings
from make_us_rich.documents import HORIZONS

SPANS = (24, 48, 168)
"""How many candles the chart can show."""
MIN_REFRESH_MS = 10_000
_MARKED_HORIZONS = (1, 4, 8, 12, 18, HORIZONS)
_EMPTY_FIGURE = {"layout": {"xaxis": {"visible": False}, "yaxis": {"visible": False}, "paper_bgcolor": "rgba(0,0,0,0)"}}
_DISCLAIMER = (
    "Each band contains a close with the stated probability, if the market behaves as it did in the training period. "
    "That holds for each close alone, not for all of them together. A forecast is not advice to buy or sell."
)
_HALF_OF_A_PHONE: dict[str, object] = {"base": "calc(50vw - 24px)", "sm": 200}
_LIVE: dict[str, Any] = {"aria-live": "polite"}
_FIRST_HORIZON = 8  # candles ahead, until the reader chooses
_OTHER_MODELS = {
    "previous": "Previous model",
    "foundation": "Foundation model",
    "naive": "Naive forecast",
    "ewma": "EWMA volatility",
}
_FIRST_SPAN, _FIRST_SPAN_ON_PHONE = 48, 24


def layout(settings: Settings) -> Component:
    return page(
        "Forecasts",
        html.Div(id="waiting", role="status"),
        html.Div(id="outage", role="status"),  # dashboard.css dims the chart while it says something
        dmc.Box(id="forecast"),
        dmc.Stack(
            [
                html.Div(id="parked", role="status"),
                dmc.Group([dmc.Box(id="last-price"), dmc.Text(id="countdown", c="dimmed")], gap="md", align="baseline"),
                dmc.Box(dmc.Skeleton(h=56), id="reading", **aria_label("forecast"), **_LIVE),
                # The empty chart is there from the start, so that Plotly loads while the forecast is fetched.
                dmc.Group([_horizon_slider(), _chart_controls()], gap="md"),
                dmc.Paper(
                    graph(_EMPTY_FIGURE, id="chart", style={"minHeight": 420}),
                    withBorder=True,
                    p="xs",
                    radius="md",
                    mih=440,
                ),
                dmc.Box(dmc.Skeleton(h=26), id="horizon-badges"),
                dmc.Box(id="since", **_LIVE),
                dmc.Box(id="served-record"),
                _price_field(),
                dmc.Box(id="model-badges"),
                dmc.Text(_DISCLAIMER, size="sm", c="dimmed"),
                dmc.Group(
                    [
                        dmc.Button("Download CSV", id="csv", variant="default", size="compact-sm"),
                        dmc.Button("Download PNG", id="png", variant="default", size="compact-sm"),
                    ],
                    gap="xs",
                ),
                dmc.Box(id="csv-notice", **_LIVE),
            ],
            id="chart-section",
            gap="sm",
        ),
        dcc.Download(id="csv-file"),
        dcc.Interval(id="refresh", interval=MIN_REFRESH_MS),
        dcc.Interval(id="second", interval=1000),
        dcc.Store(id="shown"),
        dcc.Store(id="choice"),
        dcc.Store(id="drawing"),
        dcc.Store(id="forecast-key"),
        dcc.Store(id="candle-labels", data=_candle_labels()),
        controls=dmc.Group(
            [
                interval_switch("interval", settings.intervals),
                _model_select(),
                pair_select("pair", label="pair", width=_HALF_OF_A_PHONE),
            ],
            gap="xs",
        ),
    )


def _horizon_slider() -> Component:
    horizons = remembered(range(1, HORIZONS + 1), _FIRST_HORIZON)
    slider = dmc.Slider(
        id="horizon", value=_FIRST_HORIZON, min=1, max=HORIZONS, thumbLabel="horizon", flex=1, **horizons
    )
    return dmc.Group(
        [dmc.Text("Horizon", size="sm", fw=500), slider],
        id="horizon-row",
        wrap="nowrap",
        flex=1,
        miw=280,
        gap="lg",
        pt="xs",
        pb="lg",
        pr="md",
    )


def _chart_controls() -> Component:
    """Return the time shown, once for wide windows and once for phones, and the button that resets the view."""
    spans = [
        _span_control("span", _FIRST_SPAN, size="xs", visibleFrom="sm"),
        _span_control("span-phone", _FIRST_SPAN_ON_PHONE, size="sm", hiddenFrom="sm"),
    ]
    reset = dmc.Button("Reset view", id="reset", variant="default", size="compact-xs", h={"base": 32, "sm": 22})
    return dmc.Group([*spans, reset], justify="space-between", gap="xs", w={"base": "100%", "sm": "auto"})


def _span_control(name: str, first: int, **sizes: Any) -> Component:
    label = aria_label("time shown before the forecast")
    spans = [str(span) for span in SPANS]
    return dmc.SegmentedControl(
        id=name, data=spans, value=str(first), **remembered(spans, str(first)), **sizes, **label
    )


def _price_field() -> Component:
    field = dmc.TextInput(
        id="above",
        label="Probability above",
        value="",
        placeholder="price",
        rightSectionWidth=64,
        debounce=300,
        w=_HALF_OF_A_PHONE,
        attributes={"input": {"inputMode": "decimal"}},
    )
    return dmc.Group([field, dmc.Box(id="probability", flex=1, miw=200, pb=6, **_LIVE)], align="flex-end", gap="sm")


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


def _candle_labels() -> dict[str, object]:
    """Return what assets/forecasts.js writes on slider and switch: by interval, how long numbers of candles last."""
    horizons = range(1, HORIZONS + 1)
    return {
        "marked": _MARKED_HORIZONS,
        "horizons": {str(each): [duration(count * each.ms) for count in horizons] for each in TRAINING_CANDLES},
        "spans": {
            str(each): [{"value": str(count), "label": duration(count * each.ms)} for count in SPANS]
            for each in TRAINING_CANDLES
        },
    }
