"""The picture of a forecast: the candles so far, and beside them where the next close may fall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from make_us_rich.client import Forecast
from make_us_rich.market.candles import Candles

# Blue and orange are told apart by every kind of colour vision.
RISING, FALLING = "#3b82c4", "#d97706"
BAND = "124, 92, 191"
TEXT, GRID = "#7d8590", "rgba(128, 138, 150, 0.22)"
_LAYOUT: dict[str, Any] = {
    "margin": {"l": 8, "r": 8, "t": 30, "b": 8},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"color": TEXT, "family": "system-ui, sans-serif", "size": 12},
    "legend": {"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"},
}
# lower and upper quantile, share of closes inside, opacity
BANDS = (("q05", "q95", 90, 0.22), ("q10", "q90", 80, 0.30), ("q25", "q75", 50, 0.45))


def forecast_figure(candles: Candles, forecast: Forecast) -> go.Figure:
    """Left: the last candles with their volume. Right: the bands of the next close, on the same price axis."""
    figure = make_subplots(
        rows=2,
        cols=2,
        column_widths=[0.76, 0.24],
        row_heights=[0.82, 0.18],
        horizontal_spacing=0.015,
        vertical_spacing=0.03,
        shared_yaxes="rows",
        specs=[[{}, {}], [{}, None]],
    )
    _add_candles(figure, candles)
    _add_bands(figure, forecast)
    _style(figure, candles, forecast)
    return figure


def price(value: float) -> str:
    """Six significant digits, thousands separated: 76,764.8 or 0.119001."""
    return f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.0f}"


def clock(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%d %b %H:%M UTC")


def _add_candles(figure: go.Figure, candles: Candles) -> None:
    times = [datetime.fromtimestamp(time / 1000, UTC) for time in candles.open_time_ms.tolist()]
    rose = candles.close >= candles.open
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
    colours = [RISING if up else FALLING for up in rose.tolist()]
    volume = go.Bar(x=times, y=candles.volume, marker={"color": colours, "opacity": 0.5}, showlegend=False)
    figure.add_trace(
        volume.update(name="volume", hovertemplate="%{x|%d %b %H:%M}<br>%{y:,.0f}"), row=2, col=1
    )


def _add_bands(figure: go.Figure, forecast: Forecast) -> None:
    quantiles = forecast.quantiles
    for low, high, share, opacity in BANDS:
        height = quantiles[high] - quantiles[low]
        figure.add_trace(
            go.Bar(
                x=["next close"],
                y=[height],
                base=[quantiles[low]],
                width=0.72,
                marker={"color": f"rgba({BAND}, {opacity})", "line": {"width": 0}},
                name=f"{share} % of closes",
                hovertemplate=f"{share} %: {price(quantiles[low])} to {price(quantiles[high])}<extra></extra>",
            ),
            row=1,
            col=2,
        )
    for name, shift in (("q05", -11), ("q95", 11)):
        figure.add_annotation(
            x="next close",
            y=quantiles[name],
            text=price(quantiles[name]),
            showarrow=False,
            yshift=shift,
            row=1,
            col=2,
        )
    figure.add_annotation(
        x="next close",
        y=quantiles["q50"],
        text=f"<b>{price(quantiles['q50'])}</b>",
        showarrow=False,
        bgcolor=f"rgb({BAND})",
        borderpad=3,
        font={"color": "white", "size": 13},
        row=1,
        col=2,
    )


def _style(figure: go.Figure, candles: Candles, forecast: Forecast) -> None:
    figure.add_hline(
        y=forecast.last_close,
        line={"color": TEXT, "width": 1, "dash": "dot"},
        row=1,
        col="all",  # type: ignore[arg-type]
    )
    figure.update_layout(
        **_LAYOUT,
        barmode="overlay",
        height=460,
        xaxis_rangeslider_visible=False,
        uirevision=forecast.pair,
        dragmode="pan",
    )
    figure.update_xaxes(gridcolor=GRID, zeroline=False)
    figure.update_yaxes(gridcolor=GRID, zeroline=False, tickformat="~g", separatethousands=True)
    figure.update_xaxes(showticklabels=False, row=1, col=1)
    figure.update_xaxes(
        showgrid=False,
        title_text=f"at {clock(forecast.target_close_ms)[7:]}",
        showticklabels=False,
        row=1,
        col=2,
    )
    figure.update_xaxes(matches="x", row=2, col=1)
    figure.update_yaxes(title_text="volume", showticklabels=False, row=2, col=1)
    low = min(float(candles.low.min()), forecast.quantiles["q05"])
    high = max(float(candles.high.max()), forecast.quantiles["q95"])
    room = (high - low) * 0.06
    figure.update_yaxes(range=[low - room, high + room], row=1)


def loss_figure(curves: Mapping[str, Sequence[float]]) -> go.Figure:
    """Loss over the epochs, a line a curve: solid of what was trained on, dashed of what was not."""
    figure = go.Figure()
    for (name, losses), colour, dash in zip(
        curves.items(), (RISING, FALLING), ("solid", "dash"), strict=True
    ):
        figure.add_trace(
            go.Scatter(
                x=list(range(1, len(losses) + 1)),
                y=list(losses),
                name=name.replace("_", " "),
                mode="lines+markers",
                line={"color": colour, "dash": dash},
            )
        )
    figure.update_layout(**_LAYOUT, height=300)
    figure.update_xaxes(gridcolor=GRID, zeroline=False, title_text="epoch", dtick=max(1, _most(curves) // 10))
    figure.update_yaxes(gridcolor=GRID, zeroline=False, tickformat=".4f", title_text="pinball loss")
    return figure


def _most(curves: Mapping[str, Sequence[float]]) -> int:
    return max(len(losses) for losses in curves.values())
