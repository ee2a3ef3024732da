"""The chart of a forecast: the last candles with their past bands, and the fan of the coming closes behind them.

Candles and fan share one time axis. A candle fills the time from its open to its close, so the fan begins at the end of
the last candle.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from dash_app.components.colours import FALLING, FAN, FIGURE_TEXT, HORIZON, OUTLINES, OUTSIDE, RISING, rgb
from dash_app.components.figures import GRID, LAYOUT, TEXT
from dash_app.components.forecast_summary import ahead
from dash_app.components.formatting import chart_time, plot_time, price
from make_us_rich.core.interval import Interval
from make_us_rich.documents import Forecast, HorizonForecast, PastForecast
from make_us_rich.market.candles import Candles

_BACKFILLED = rgb(FIGURE_TEXT, 0.25)
_LABEL_COLOUR = rgb(HORIZON)
# Quantiles that limit the lower and the upper part, share of closes inside, opacity. The parts are drawn next to each
# other and never overlap, so that the legend shows the exact colours.
BANDS = (
    (("q25", "q75"), (), 50, 0.85),
    (("q10", "q25"), ("q75", "q90"), 80, 0.48),
    (("q05", "q10"), ("q90", "q95"), 90, 0.24),
)
_DASHES = ("dash", "dashdot", "dot", "8px,3px,2px,3px,2px,3px")  # of the models to compare with
_NAMES = {"ewma": "EWMA"}  # of the models whose choice is not a word
_PRICE_HEIGHT, _VOLUME_HEIGHT = (0.19, 1), (0, 0.16)  # shares of the height
_TICKS = 6
_BAR_WIDTH = 0.85  # of a candle: without a width, Plotly would draw a single bar as a hairline
_LEAST_STEPS = 5  # room for the fan of a model that forecasts one candle
_EDGE_STEPS = 4  # a label so close to the right edge stands to the left of its line


def forecast_figure(
    candles: Candles, forecasts: Mapping[str, Forecast], past: Sequence[PastForecast] = (), *, narrow: bool = False
) -> go.Figure:
    """Return candles, volume and past 80 % bands, and behind them the fan of the first forecast.

    `forecasts`: by the name of their model, at least one; the first is the page's own, and of the others the 80 % band
    is outlined. `narrow`: for a phone.
    """
    figure = go.Figure()
    own, *others = forecasts.items()
    shown = [item for item in past if int(candles.open_time_ms[0]) <= item.target_open_ms < own[1].as_of_ms]
    _add_past(figure, shown, narrow=narrow)
    _add_candles(figure, candles, Interval(own[1].interval))
    _add_fan(figure, own[1], narrow=narrow)
    for (name, forecast), colour, dash in zip(others, OUTLINES, _DASHES, strict=False):
        _add_outline(figure, name, forecast, {"color": colour, "dash": dash, "width": 2}, narrow=narrow)
    price_range = _price_range(candles, list(forecasts.values()), shown)
    _add_readings(figure, forecasts, price_range)
    _style(figure, candles, list(forecasts.values()), price_range, narrow=narrow)
    return figure


def horizon_marks(forecasts: Sequence[Forecast], *, narrow: bool = False) -> list[dict[str, Any]]:
    """Return, for each horizon of the first forecast, the line and the two labels that mark it in the chart.

    As Plotly's `shapes` and `annotations`, which the browser replaces when the reader chooses another horizon.
    """
    own, end_ms = forecasts[0], _end_ms(forecasts)
    step_ms = Interval(own.interval).ms
    marks = []
    for item in own.horizons:
        x = plot_time(item.target_close_ms)
        at_edge = item.target_close_ms > end_ms - _EDGE_STEPS * step_ms
        label = {
            "x": x,
            "xref": "x",
            "yref": "y",
            "showarrow": False,
            "xanchor": "right" if at_edge else "center",
            "bgcolor": _LABEL_COLOUR,
            "borderpad": 2,
            "font": {"color": "white", "size": 11 if narrow else 12},
        }
        line = {"color": _LABEL_COLOUR, "width": 1}
        low, high = item.quantiles["q10"], item.quantiles["q90"]
        marks.append(
            {
                "shapes": [
                    {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "xref": "x", "yref": "y domain", "line": line}
                ],
                "annotations": [
                    label | {"y": high, "text": price(high), "yanchor": "bottom", "yshift": 3},
                    label | {"y": low, "text": price(low), "yanchor": "top", "yshift": -3},
                ],
            }
        )
    return marks


def _add_past(figure: go.Figure, shown: Sequence[PastForecast], *, narrow: bool) -> None:
    served = [item for item in shown if not item.backfilled]
    backfilled = [item for item in shown if item.backfilled]
    if served:
        name = "past band" if narrow else "past 80 % band"
        _add_past_bands(figure, served, rgb(FAN, 0.2), rgb(FAN), name)
        _add_misses(figure, served, narrow=narrow)
    if backfilled:
        name = "backfilled" if narrow else "backfilled 80 % band"
        _add_past_bands(figure, backfilled, _BACKFILLED, _BACKFILLED, name)


def _add_past_bands(figure: go.Figure, shown: Sequence[PastForecast], colour: str, outline: str, name: str) -> None:
    low = [item.quantiles["q10"] for item in shown]
    high = [item.quantiles["q90"] for item in shown]
    figure.add_bar(
        x=[_middle(item.target_open_ms, item.target_close_ms) for item in shown],
        y=[top - bottom for top, bottom in zip(high, low, strict=True)],
        base=low,
        width=[_BAR_WIDTH * (item.target_close_ms - item.target_open_ms) for item in shown],
        hovertext=[
            f"close at {chart_time(item.target_close_ms)}:<br>80 % between {price(bottom)} and {price(top)}"
            + ("<br>backfilled: made afterwards" if item.backfilled else "")
            for item, top, bottom in zip(shown, high, low, strict=True)
        ],
        hoverinfo="text",
        marker={"color": colour, "line": {"width": 1, "color": outline}},
        name=name,
    )


def _add_misses(figure: go.Figure, served: Sequence[PastForecast], *, narrow: bool) -> None:
    """Mark the closes outside their band."""
    outside = [item for item in served if item.inside_80 is False]
    figure.add_scatter(
        x=[_middle(item.target_open_ms, item.target_close_ms) for item in outside],
        y=[item.close for item in outside],
        mode="markers",
        marker={"symbol": "x-thin", "size": 9, "line": {"width": 2.5, "color": OUTSIDE}},
        name="outside" if narrow else "close outside band",
        hovertext=[f"{chart_time(item.target_close_ms)}: close outside the band" for item in outside],
        hoverinfo="text",
        visible=True if outside else "legendonly",
    )


def _add_candles(figure: go.Figure, candles: Candles, interval: Interval) -> None:
    opens_ms = candles.open_time_ms.tolist()
    times = [_middle(time, time + interval.ms) for time in opens_ms]
    rows = list(zip(opens_ms, *(column.tolist() for column in _prices(candles)), strict=True))
    figure.add_candlestick(
        x=times,
        open=candles.open,
        high=candles.high,
        low=candles.low,
        close=candles.close,
        increasing={"line": {"color": RISING, "width": 1}, "fillcolor": RISING},
        decreasing={"line": {"color": FALLING, "width": 1}, "fillcolor": FALLING},
        name="price",
        hovertext=[
            f"{chart_time(ms)}<br>open {price(first)}<br>high {price(high)}<br>low {price(low)}<br>close {price(last)}"
            for ms, first, high, low, last in rows
        ],
        hoverinfo="text",
        showlegend=False,
    )
    rose = (candles.close >= candles.open).tolist()
    figure.add_bar(
        x=times,
        y=candles.volume,
        marker={"color": [RISING if up else FALLING for up in rose], "opacity": 0.5},
        name="volume",
        width=_BAR_WIDTH * interval.ms,
        hovertext=[chart_time(time) for time in opens_ms],
        hovertemplate="%{hovertext}<br>volume %{y:,.0f}<extra></extra>",
        showlegend=False,
        yaxis="y2",
    )


def _add_fan(figure: go.Figure, forecast: Forecast, *, narrow: bool) -> None:
    times = _times(forecast)
    for below, above, share, opacity in BANDS:
        x: list[str | None] = []
        y: list[float | None] = []
        for low, high in filter(None, (below, above)):
            gap = [None] if x else []
            x += [*gap, *times, *reversed(times)]
            y += [*gap, *_curve(forecast, low), *reversed(_curve(forecast, high))]
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines",
            line={"width": 1, "color": FAN},
            fill="toself",
            fillcolor=rgb(FAN, opacity),
            name=f"{share} %" if narrow else f"{share} % band",
            hoverinfo="skip",
        )
    figure.add_scatter(
        x=times,
        y=_curve(forecast, "q50"),
        mode="lines",
        line={"color": "white", "width": 2},
        name="median",
        hoverinfo="skip",
        showlegend=False,
    )


def _add_readings(figure: go.Figure, forecasts: Mapping[str, Forecast], price_range: tuple[float, float]) -> None:
    """Read out every forecast of a close wherever the pointer is in the fan or between the outlines.

    Areas and lines answer to the pointer only at their points, and then one of them hides the others. So an invisible
    bar at each close holds what all of them say of it.
    """
    own = next(iter(forecasts.values()))
    by_close: dict[int, list[tuple[str, Forecast, HorizonForecast]]] = {}
    for name, forecast in forecasts.items():
        for item in forecast.horizons:
            by_close.setdefault(item.target_close_ms, []).append((name, forecast, item))
    lowest, highest = price_range
    lows = [max(lowest, min(item.quantiles["q05"] for *_, item in at)) for at in by_close.values()]
    highs = [min(highest, max(item.quantiles["q95"] for *_, item in at)) for at in by_close.values()]
    figure.add_bar(
        x=[plot_time(time) for time in by_close],
        y=[high - low for low, high in zip(lows, highs, strict=True)],
        base=lows,
        width=Interval(own.interval).ms,
        marker={"color": "rgba(0,0,0,0)", "line": {"width": 0}},
        name="fan",
        hovertext=[_reading(at, own) for at in by_close.values()],
        hoverinfo="text",
        hoverlabel={"bgcolor": _LABEL_COLOUR, "font": {"color": "white"}, "align": "left"},
        showlegend=False,
    )


def _add_outline(figure: go.Figure, name: str, forecast: Forecast, line: Mapping[str, Any], *, narrow: bool) -> None:
    """Draw both ends of another model's 80 % band."""
    times, name = _times(forecast), _NAMES.get(name, name)
    figure.add_scatter(
        x=[*times, None, *times],
        y=[*_curve(forecast, "q10"), None, *_curve(forecast, "q90")],
        mode="lines",
        line=line,
        name=name if narrow else f"{name}, 80 %",
        hoverinfo="skip",
    )


def _reading(at: Sequence[tuple[str, Forecast, HorizonForecast]], own: Forecast) -> str:
    """Write what each forecast says of one close, a block for each; the page's own has no name."""
    _, first, item = at[0]
    blocks = [f"{ahead(first, item)}, {chart_time(item.target_close_ms)}:"]
    for name, forecast, each in at:
        named = "" if forecast is own else f"{_NAMES.get(name, name)}: "
        low, median, high = (price(each.quantiles[key]) for key in ("q10", "q50", "q90"))
        blocks.append(f"{named}80 % between {low} and {high},<br>median {median}")
    return "<br>".join(blocks)


def _times(forecast: Forecast) -> list[str]:
    """Return as_of, and the time of the close at each horizon."""
    return [plot_time(time) for time in (forecast.as_of_ms, *(item.target_close_ms for item in forecast.horizons))]


def _curve(forecast: Forecast, name: str) -> list[float]:
    """Return a quantile at as_of, where it is the last close, and at each horizon."""
    return [forecast.last_close, *(item.quantiles[name] for item in forecast.horizons)]


def _end_ms(forecasts: Sequence[Forecast]) -> int:
    """Return the end of the time axis: half a candle after the last close that is forecast."""
    step_ms = Interval(forecasts[0].interval).ms
    last_ms = max(forecast.horizons[-1].target_close_ms for forecast in forecasts)
    return max(last_ms, forecasts[0].as_of_ms + _LEAST_STEPS * step_ms) + step_ms // 2


def _style(
    figure: go.Figure,
    candles: Candles,
    forecasts: Sequence[Forecast],
    price_range: tuple[float, float],
    *,
    narrow: bool,
) -> None:
    first = forecasts[0]
    figure.update_layout(
        **LAYOUT,
        barmode="overlay",
        height=420 if narrow else 480,
        uirevision=f"{first.pair} {first.interval} {len(candles)}",
        dragmode=False if narrow else "pan",
    )
    if narrow:
        figure.update_layout(
            margin={"l": 4, "r": 4, "t": 60, "b": 4},
            font_size=11,
            legend={"x": 0, "xanchor": "left", "entrywidth": 0.31, "entrywidthmode": "fraction"},
        )
    low, high = price_range
    room = (high - low) * 0.07
    shared = {"gridcolor": GRID, "zeroline": False}
    figure.update_layout(
        xaxis={
            **shared,
            "anchor": "y2",
            "range": [plot_time(int(candles.open_time_ms[0])), plot_time(_end_ms(forecasts))],
            "title": {"text": "UTC", "font": {"size": 12}, "standoff": 4},
            "tickformat": "%H:%M<br>%d %b",
            "tickangle": 0,
            "nticks": 5 if narrow else 12,
            "rangeslider": {"visible": False},
        },
        yaxis={
            **shared,
            "domain": _PRICE_HEIGHT,
            "range": [low - room, high + room],
            "tickformat": _tick_format(high - low),
        },
        yaxis2={
            **shared,
            "domain": _VOLUME_HEIGHT,
            "title": None if narrow else {"text": "volume", "font": {"size": 12}},
            "showticklabels": False,
            "fixedrange": True,
        },
        shapes=[_last_close_line(first.last_close)],
    )


def _last_close_line(last_close: float) -> dict[str, Any]:
    line = {"color": TEXT, "width": 1, "dash": "dot"}
    return {"type": "line", "xref": "x domain", "x0": 0, "x1": 1, "y0": last_close, "y1": last_close, "line": line}


def _price_range(candles: Candles, forecasts: Sequence[Forecast], past: Sequence[PastForecast]) -> tuple[float, float]:
    """Return the lowest and the highest price shown. Models to compare with never take more than half of the height."""
    first, *others = forecasts
    ends = [item.quantiles[name] for item in past for name in ("q10", "q90")]
    ends += [item.quantiles[name] for item in first.horizons for name in ("q05", "q95")]
    low, high = min(float(candles.low.min()), *ends), max(float(candles.high.max()), *ends)
    most = (high - low) / 2
    outlines = [item.quantiles[name] for each in others for item in each.horizons for name in ("q10", "q90")]
    return max(low - most, min([low, *outlines])), min(high + most, max([high, *outlines]))


def _prices(candles: Candles) -> tuple[Any, ...]:
    return candles.open, candles.high, candles.low, candles.close


def _tick_format(span: float) -> str:
    """Return a format with enough decimals to tell neighbouring ticks apart, and no exponent."""
    step = span / _TICKS if span > 0 else 1.0
    return f",.{max(0, -math.floor(math.log10(step)))}f"


def _middle(from_ms: int, to_ms: int) -> str:
    """Return the time in the middle of a candle, where it is drawn."""
    return plot_time((from_ms + to_ms) // 2)
