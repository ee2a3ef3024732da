"""The pictures: candles with what was forecast of them, the fan of the next close, losses, calls a day."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dash_app.components.formatting import clock, price
from make_us_rich.client import Forecast, PastForecast
from make_us_rich.market.candles import Candles

# Blue and orange are told apart by every kind of colour vision; the shades of the band by their lightness alone.
RISING, FALLING = "#3b82c4", "#d97706"
BAND = "124, 92, 191"
# dashboard.css finds the texts by this colour, and gives them the scheme's
TEXT, GRID = "rgb(125, 133, 144)", "rgba(128, 138, 150, 0.22)"
MISSED = "#c2255c"
# upper and lower quantile of each half, share of closes inside the whole, opacity: drawn side by side and never
# over each other, so that the legend shows the very colours
BANDS = (
    (("q25", "q75"), (), 50, 0.80),
    (("q10", "q25"), ("q75", "q90"), 80, 0.48),
    (("q05", "q10"), ("q90", "q95"), 90, 0.24),
)
_TICKS = 6
_LAYOUT: dict[str, Any] = {
    "margin": {"l": 8, "r": 8, "t": 30, "b": 8},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"color": TEXT, "family": "system-ui, sans-serif", "size": 12},
    "legend": {"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"},
}


def forecast_figure(
    candles: Candles, forecasts: Mapping[str, Forecast], past: Sequence[PastForecast] = (), *, narrow: bool = False
) -> go.Figure:
    """Left: candles and volume, behind them the 80 % bands that were forecast. Right: the bands of the next close.

    `forecasts` by the name of their model, at least one; the first is what the page is about. `narrow` is a phone.
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
    figure.add_trace(
        go.Bar(
            x=[_moment(item.target_open_ms) for item in shown],
            y=[top - bottom for top, bottom in zip(high, low, strict=True)],
            base=low,
            customdata=[f"{price(bottom)} to {price(top)}" for top, bottom in zip(high, low, strict=True)],
            marker={"color": f"rgba({BAND}, 0.2)", "line": {"width": 0}},
            name="before" if narrow else "80 % forecast before",
            hovertemplate="%{x|%d %b %H:%M}: %{customdata}<extra>80 % forecast</extra>",
        ),
        row=1,
        col=1,
    )
    missed = [item for item in shown if item.inside_80 is False]
    figure.add_trace(
        go.Scatter(
            x=[_moment(item.target_open_ms) for item in missed],
            y=[item.close for item in missed],
            mode="markers",
            marker={"symbol": "x-thin", "size": 9, "line": {"width": 2.5, "color": MISSED}},
            name="outside" if narrow else "close outside",
            hovertemplate="%{x|%d %b %H:%M}: closed outside<extra></extra>",
            visible=True if missed else "legendonly",
        ),
        row=1,
        col=1,
    )


def _add_candles(figure: go.Figure, candles: Candles) -> None:
    times = [_moment(time) for time in candles.open_time_ms.tolist()]
    figure.add_trace(
        go.Candlestick(
            x=times,
            open=candles.open,
            high=candles.high,
            low=candles.low,
            close=candles.close,
            increasing={"line": {"color": RISING, "width": 1}, "fillcolor": RISING},
            decreasing={"line": {"color": FALLING, "width": 1}, "fillcolor": FALLING},
            name="price",
            showlegend=False,
        ),
        row=1,
        col=1,
    )
    rose = (candles.close >= candles.open).tolist()
    colours = [RISING if up else FALLING for up in rose]
    volume = go.Bar(x=times, y=candles.volume, marker={"color": colours, "opacity": 0.5}, showlegend=False)
    figure.add_trace(volume.update(name="volume", hovertemplate="%{x|%d %b %H:%M}<br>%{y:,.0f}"), row=2, col=1)


def _add_bands(figure: go.Figure, forecasts: Mapping[str, Forecast], *, narrow: bool) -> None:
    for below, above, share, opacity in BANDS:
        parts = [
            (name, forecast.quantiles[low], forecast.quantiles[high])
            for name, forecast in forecasts.items()
            for low, high in filter(None, (below, above))
        ]
        figure.add_trace(
            go.Bar(
                x=[name for name, _, _ in parts],
                y=[high - low for _, low, high in parts],
                base=[low for _, low, _ in parts],
                width=0.78,
                marker={"color": f"rgba({BAND}, {opacity})", "line": {"width": 0}},
                name=f"{share} %" if narrow else f"{share} % of closes",
                customdata=[f"{price(low)} to {price(high)}" for _, low, high in parts],
                hovertemplate=f"{share} %: %{{customdata}}<extra>%{{x}}</extra>",
            ),
            row=1,
            col=2,
        )
    for name, forecast in forecasts.items():
        _label(figure, name, forecast.quantiles, crowded=len(forecasts) > 1 or narrow)


def _label(figure: go.Figure, name: str, quantiles: Mapping[str, float], *, crowded: bool) -> None:
    size = 10 if crowded else 12
    for quantile, shift in (("q05", -9), ("q95", 9)):
        figure.add_annotation(
            x=name,
            y=quantiles[quantile],
            text=price(quantiles[quantile]),
            showarrow=False,
            yshift=shift,
            font={"size": size},
            row=1,
            col=2,
        )
    figure.add_annotation(
        x=name,
        y=quantiles["q50"],
        text=f"<b>{price(quantiles['q50'])}</b>",
        showarrow=False,
        bgcolor="rgb(76, 45, 140)",
        borderpad=2,
        font={"color": "white", "size": size},
        row=1,
        col=2,
    )


def _style(figure: go.Figure, candles: Candles, forecasts: Sequence[Forecast], *, narrow: bool) -> None:
    first = forecasts[0]
    figure.add_hline(
        y=first.last_close,
        line={"color": TEXT, "width": 1, "dash": "dot"},
        row=1,
        col="all",  # type: ignore[arg-type]
    )
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
    figure.update_xaxes(gridcolor=GRID, zeroline=False)
    figure.update_yaxes(gridcolor=GRID, zeroline=False)
    figure.update_xaxes(showticklabels=False, row=1, col=1)
    figure.update_xaxes(
        showgrid=False,
        title_text=f"close of {clock(first.target_close_ms)[7:]}",
        title={"standoff": 4, "font": {"size": 11 if narrow else 12}},
        showticklabels=len(forecasts) > 1,
        type="category",
        row=1,
        col=2,
    )
    figure.update_xaxes(matches="x", tickformat="%H:%M<br>%d %b", tickangle=0, nticks=4 if narrow else 9, row=2, col=1)
    figure.update_yaxes(title_text=None if narrow else "volume", showticklabels=False, row=2, col=1)
    figure.update_yaxes(range=[low - room, high + room], tickformat=_tick_format(high - low), row=1)


def _tick_format(span: float) -> str:
    """As many decimals as the steps between ticks need, and no exponent."""
    step = span / _TICKS if span > 0 else 1.0
    return f",.{max(0, -math.floor(math.log10(step)))}f"


def loss_figure(curves: Mapping[str, Sequence[float]]) -> go.Figure:
    """Loss over the epochs, a line a curve: solid of what was trained on, dashed of what was not."""
    figure = go.Figure()
    for (name, losses), colour, dash in zip(curves.items(), (RISING, FALLING), ("solid", "dash"), strict=True):
        figure.add_trace(
            go.Scatter(
                x=list(range(1, len(losses) + 1)),
                y=list(losses),
                name=name.replace("_", " "),
                mode="lines+markers",
                line={"color": colour, "dash": dash},
            )
        )
    longest = max(len(losses) for losses in curves.values())
    figure.update_layout(**_LAYOUT, height=300)
    figure.update_xaxes(gridcolor=GRID, zeroline=False, title_text="epoch", dtick=max(1, longest // 10))
    figure.update_yaxes(gridcolor=GRID, zeroline=False, tickformat=".4f", title_text="pinball loss")
    return figure


def usage_figure(by_day: Mapping[date, int], days: Sequence[date]) -> go.Figure:
    """Calls on each of the days, a bar a day."""
    calls = [by_day.get(day, 0) for day in days]
    bars = go.Bar(
        x=[str(day.day) for day in days],
        y=calls,
        marker={"color": RISING},
        hovertext=[f"{day:%d %B}: {count:,} calls" for day, count in zip(days, calls, strict=True)],
        hoverinfo="text",
    )
    figure = go.Figure(bars)
    figure.update_layout(**_LAYOUT, height=200, bargap=0.25)
    figure.update_layout(margin={"t": 8})
    figure.update_xaxes(
        type="category", tickangle=0, nticks=10, title_text=f"calls a day, {days[0]:%B}, UTC", title_font_size=12
    )
    figure.update_yaxes(gridcolor=GRID, zeroline=False, tickformat=",d", rangemode="tozero", nticks=5)
    if not any(calls):
        figure.update_yaxes(range=[0, 4])
    return figure


def _moment(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)
