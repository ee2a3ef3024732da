"""Plotly figures: candles with past and next forecasts, training losses, and API calls per day."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dash_app.components.formatting import price, utc_time
from make_us_rich.documents import Forecast, PastForecast
from make_us_rich.market.candles import Candles

# Blue and orange are distinct for every kind of colour vision; the shades of a band differ in lightness.
_RISING, _FALLING, _OUTSIDE = "#3b82c4", "#d97706", "#c2255c"
_BAND_RGB = "124, 92, 191"
# dashboard.css selects texts by this colour and replaces it with the colour of the light or dark scheme.
_TEXT, _GRID = "rgb(125, 133, 144)", "rgba(128, 138, 150, 0.22)"
# Quantiles that limit the lower and the upper part, share of closes inside, opacity. The parts are drawn next to each
# other and never overlap, so that the legend shows the exact colours.
BANDS = (
    (("q25", "q75"), (), 50, 0.80),
    (("q10", "q25"), ("q75", "q90"), 80, 0.48),
    (("q05", "q10"), ("q90", "q95"), 90, 0.24),
)
# Row and column of the subplots: candles with past bands, volume below them, and the next forecasts.
_PAST, _VOLUME, _NEXT = {"row": 1, "col": 1}, {"row": 2, "col": 1}, {"row": 1, "col": 2}
_TICKS = 6
_LAYOUT: Mapping[str, Any] = {
    "margin": {"l": 8, "r": 8, "t": 30, "b": 8},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"color": _TEXT, "family": "system-ui, sans-serif", "size": 12},
    "legend": {"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"},
}


def forecast_figure(
    candles: Candles, forecasts: Mapping[str, Forecast], past: Sequence[PastForecast] = (), *, narrow: bool = False
) -> go.Figure:
    """Return candles, volume and past 80 % bands on the left, and the bands of the next close on the right.

    `forecasts`: by the name of their model, at least one; the first is the page's own. `narrow`: for a phone.
    """
    share = (0.36 if narrow else 0.2) + 0.07 * (len(forecasts) - 1)
    figure = make_subplots(
        rows=2,
        cols=2,
        column_widths=[1 - share, share],
        row_heights=[0.84, 0.16],
        horizontal_spacing=0.015,
        vertical_spacing=0.03,
        shared_yaxes="rows",
        specs=[[{}, {}], [{}, None]],
    )
    _add_past(figure, past, int(candles.open_time_ms[0]), narrow=narrow)
    _add_candles(figure, candles)
    _add_bands(figure, forecasts, narrow=narrow)
    _style(figure, candles, list(forecasts.values()), narrow=narrow)
    return figure


def _add_past(figure: go.Figure, past: Sequence[PastForecast], first_ms: int, *, narrow: bool) -> None:
    shown = [item for item in past if item.target_open_ms >= first_ms]
    if not shown:
        return
    low = [item.quantiles["q10"] for item in shown]
    high = [item.quantiles["q90"] for item in shown]
    figure.add_bar(
        x=[_to_datetime(item.target_open_ms) for item in shown],
        y=[top - bottom for top, bottom in zip(high, low, strict=True)],
        base=low,
        customdata=[f"{price(bottom)} to {price(top)}" for top, bottom in zip(high, low, strict=True)],
        marker={"color": f"rgba({_BAND_RGB}, 0.2)", "line": {"width": 0}},
        name="past band" if narrow else "past 80 % band",
        hovertemplate="%{x|%d %b %H:%M}: %{customdata}<extra>80 % band</extra>",
        **_PAST,
    )
    outside = [item for item in shown if item.inside_80 is False]
    figure.add_scatter(
        x=[_to_datetime(item.target_open_ms) for item in outside],
        y=[item.close for item in outside],
        mode="markers",
        marker={"symbol": "x-thin", "size": 9, "line": {"width": 2.5, "color": _OUTSIDE}},
        name="outside" if narrow else "close outside band",
        hovertemplate="%{x|%d %b %H:%M}: close outside the band<extra></extra>",
        visible=True if outside else "legendonly",
        **_PAST,
    )


def _add_candles(figure: go.Figure, candles: Candles) -> None:
    times = [_to_datetime(time) for time in candles.open_time_ms.tolist()]
    figure.add_candlestick(
        x=times,
        open=candles.open,
        high=candles.high,
        low=candles.low,
        close=candles.close,
        increasing={"line": {"color": _RISING, "width": 1}, "fillcolor": _RISING},
        decreasing={"line": {"color": _FALLING, "width": 1}, "fillcolor": _FALLING},
        name="price",
        showlegend=False,
        **_PAST,
    )
    rose = (candles.close >= candles.open).tolist()
    colours = [_RISING if up else _FALLING for up in rose]
    figure.add_bar(
        x=times,
        y=candles.volume,
        marker={"color": colours, "opacity": 0.5},
        name="volume",
        hovertemplate="%{x|%d %b %H:%M}<br>%{y:,.0f}",
        showlegend=False,
        **_VOLUME,
    )


def _add_bands(figure: go.Figure, forecasts: Mapping[str, Forecast], *, narrow: bool) -> None:
    for below, above, share, opacity in BANDS:
        parts = [
            (name, forecast.quantiles[low], forecast.quantiles[high])
            for name, forecast in forecasts.items()
            for low, high in filter(None, (below, above))
        ]
        figure.add_bar(
            x=[name for name, _, _ in parts],
            y=[high - low for _, low, high in parts],
            base=[low for _, low, _ in parts],
            width=0.78,
            marker={"color": f"rgba({_BAND_RGB}, {opacity})", "line": {"width": 0}},
            name=f"{share} %" if narrow else f"{share} % band",
            customdata=[f"{price(low)} to {price(high)}" for _, low, high in parts],
            hovertemplate=f"{share} % band: %{{customdata}}<extra>%{{x}}</extra>",
            **_NEXT,
        )
    for name, forecast in forecasts.items():
        _add_prices(figure, name, forecast, crowded=len(forecasts) > 1 or narrow)


def _add_prices(figure: go.Figure, name: str, forecast: Forecast, *, crowded: bool) -> None:
    """Write the prices of the median and of the ends of the 90 % band."""
    quantiles, size = forecast.quantiles, 10 if crowded else 12
    for quantile, shift in (("q05", -9), ("q95", 9)):
        figure.add_annotation(
            x=name,
            y=quantiles[quantile],
            text=price(quantiles[quantile]),
            showarrow=False,
            yshift=shift,
            font={"size": size},
            **_NEXT,
        )
    figure.add_annotation(
        x=name,
        y=quantiles["q50"],
        text=f"<b>{price(quantiles['q50'])}</b>",
        showarrow=False,
        bgcolor="rgb(76, 45, 140)",
        borderpad=2,
        font={"color": "white", "size": size},
        **_NEXT,
    )


def _style(figure: go.Figure, candles: Candles, forecasts: Sequence[Forecast], *, narrow: bool) -> None:
    first = forecasts[0]
    figure.add_hline(y=first.last_close, line={"color": _TEXT, "width": 1, "dash": "dot"}, row=1, col="all")
    figure.update_layout(
        **_LAYOUT,
        barmode="overlay",
        bargap=0.15,
        height=420 if narrow else 480,
        xaxis_rangeslider_visible=False,
        uirevision=first.pair,
        dragmode=False if narrow else "pan",
    )
    if narrow:
        figure.update_layout(
            margin={"l": 4, "r": 4, "t": 60, "b": 4},
            font_size=11,
            legend={"x": 0, "xanchor": "left", "entrywidth": 0.31, "entrywidthmode": "fraction"},
        )
    low = min(float(candles.low.min()), *(item.quantiles["q05"] for item in forecasts))
    high = max(float(candles.high.max()), *(item.quantiles["q95"] for item in forecasts))
    room = (high - low) * 0.07
    figure.update_xaxes(gridcolor=_GRID, zeroline=False)
    figure.update_yaxes(gridcolor=_GRID, zeroline=False)
    figure.update_xaxes(showticklabels=False, **_PAST)
    figure.update_xaxes(
        showgrid=False,
        title_text=f"close at {utc_time(first.target_close_ms)[7:]}",
        title={"standoff": 4, "font": {"size": 11 if narrow else 12}},
        showticklabels=len(forecasts) > 1,
        type="category",
        **_NEXT,
    )
    figure.update_xaxes(matches="x", tickformat="%H:%M<br>%d %b", tickangle=0, nticks=4 if narrow else 9, **_VOLUME)
    figure.update_yaxes(title_text=None if narrow else "volume", title_font_size=12, showticklabels=False, **_VOLUME)
    figure.update_yaxes(range=[low - room, high + room], tickformat=_tick_format(high - low), row=1)


def _tick_format(span: float) -> str:
    """Return a format with enough decimals to tell neighbouring ticks apart, and no exponent."""
    step = span / _TICKS if span > 0 else 1.0
    return f",.{max(0, -math.floor(math.log10(step)))}f"


def loss_figure(curves: Mapping[str, Sequence[float]]) -> go.Figure:
    """Plot the losses by epoch: the training loss as a solid line, the validation loss as a dashed one."""
    figure = go.Figure()
    for (name, losses), colour, dash in zip(curves.items(), (_RISING, _FALLING), ("solid", "dash"), strict=True):
        figure.add_scatter(
            x=list(range(1, len(losses) + 1)),
            y=list(losses),
            name=name.replace("_", " "),
            mode="lines+markers",
            line={"color": colour, "dash": dash},
        )
    longest = max(len(losses) for losses in curves.values())
    figure.update_layout(**_LAYOUT, height=300)
    figure.update_xaxes(
        gridcolor=_GRID, zeroline=False, title_text="epoch", title_font_size=12, dtick=max(1, longest // 10)
    )
    figure.update_yaxes(
        gridcolor=_GRID, zeroline=False, tickformat=".4f", title_text="pinball loss", title_font_size=12
    )
    return figure


def usage_figure(by_day: Mapping[date, int], days: Sequence[date]) -> go.Figure:
    """Return a bar for each day's number of calls."""
    calls = [by_day.get(day, 0) for day in days]
    bars = go.Bar(
        x=[str(day.day) for day in days],
        y=calls,
        marker={"color": _RISING},
        hovertext=[f"{day:%d %B}: {count:,} calls" for day, count in zip(days, calls, strict=True)],
        hoverinfo="text",
    )
    figure = go.Figure(bars)
    figure.update_layout(**_LAYOUT, height=200, bargap=0.25)
    figure.update_layout(margin={"t": 8})
    figure.update_xaxes(
        type="category", tickangle=0, nticks=10, title_text=f"calls per day, {days[0]:%B}, UTC", title_font_size=12
    )
    figure.update_yaxes(gridcolor=_GRID, zeroline=False, tickformat=",d", rangemode="tozero", nticks=5)
    if not any(calls):
        figure.update_yaxes(range=[0, 4])
    return figure


def _to_datetime(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)
