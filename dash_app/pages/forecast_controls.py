"""The controls of the forecasts page: models to compare, horizon, time shown, and the field for a price."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import Dash
from dash.development.base_component import Component

from dash_app.components.layout import aria_label, keep_to_values
from dash_app.pages.forecast_scripts import SPANS
from make_us_rich.documents import HORIZONS

HALF_OF_A_PHONE: dict[str, object] = {"base": "calc(50vw - 24px)", "sm": 200}
LIVE: dict[str, Any] = {"aria-live": "polite"}
_FIRST_HORIZON = 8  # candles ahead, until the reader chooses
_OTHER_MODELS = {
    "previous": "Previous model",
    "foundation": "Foundation model",
    "naive": "Naive forecast",
    "ewma": "EWMA volatility",
}
_FIRST_SPAN, _FIRST_SPAN_ON_PHONE = 48, 24


def horizon_slider() -> Component:
    slider = dmc.Slider(
        id="horizon", value=_FIRST_HORIZON, min=1, max=HORIZONS, thumbLabel="horizon", persistence=True, flex=1
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


def chart_controls() -> Component:
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
    return dmc.SegmentedControl(id=name, data=spans, value=str(first), persistence=True, **sizes, **label)


def price_field() -> Component:
    field = dmc.TextInput(
        id="above",
        label="Probability above",
        value="",
        placeholder="price",
        rightSectionWidth=64,
        debounce=300,
        w=HALF_OF_A_PHONE,
        attributes={"input": {"inputMode": "decimal"}},
    )
    return dmc.Group([field, dmc.Box(id="probability", flex=1, miw=200, pb=6, **LIVE)], align="flex-end", gap="sm")


def keep_to_known_values(app: Dash) -> None:
    """Ignore what the browser remembers of these controls from another version."""
    keep_to_values(app, "horizon", range(1, HORIZONS + 1), _FIRST_HORIZON)
    for name, first in (("span", _FIRST_SPAN), ("span-phone", _FIRST_SPAN_ON_PHONE)):
        keep_to_values(app, name, [str(span) for span in SPANS], str(first))


def model_select() -> Component:
    return dmc.MultiSelect(
        id="compare",
        data=[{"value": name, "label": label} for name, label in _OTHER_MODELS.items()],
        value=[],
        placeholder="Compare with",
        clearable=True,
        w=HALF_OF_A_PHONE,
        attributes={"input": {"aria-label": "models to compare with the champion"}},
    )
