"""Reports of a backtest: a table for the terminal, and one HTML file with embedded plots."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from make_us_rich.core.interval import Interval
from make_us_rich.documents import QUANTILE_LEVELS
from make_us_rich.forecasting.backtest import MODEL, Summary, WindowResult, summarise
from make_us_rich.market.candles import Candles

_TITLES = {
    "naive": "naive: price stays, constant quantiles",
    "rolling": "quantiles of the last 30 days",
    "ewma": "EWMA volatility",
    "garch_t": "GARCH(1,1)-t",
    "linear_har": "linear quantile regression, HAR",
    "linear_all": "linear quantile regression, all features",
}
_FAN_CANDLES = 72
_INK, _SOFT = "#1f4e79", "#9dbad5"
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse}td,th{padding:.2rem .8rem;border-bottom:1px solid #ddd;text-align:right}"
    "td:first-child,th:first-child{text-align:left}img{max-width:100%}"
)


def table(summary: Summary) -> str:
    """Format the summary as plain text, one line for each baseline."""
    facts = _facts(summary).to_string(header=False)
    return f"{summary.windows} pair-windows\n{_skills(summary).to_string()}\n{facts}"


def line(result: WindowResult) -> str:
    """Format one result as a line of text, to show progress."""
    day = datetime.fromtimestamp(result.start_ms / 1000, UTC).date()
    ours = result.forecasts[MODEL].losses.mean()
    skills = (
        f"{name} {1 - ours / other.losses.mean():+.2%}" for name, other in result.forecasts.items() if name != MODEL
    )
    return f"{result.pair} {day}: {', '.join(skills)}"


def html_report(results: Sequence[WindowResult], candles_by_pair: Mapping[str, Candles], interval: Interval) -> str:
    """Render the backtest as a self-contained HTML page."""
    summary = summarise(results)
    intro = f"{_skills(summary).to_html(border=0)}<p></p>{_facts(summary).to_html(border=0, header=False)}"
    return _page(
        f"Backtest: {summary.windows} pair-windows",
        intro,
        [
            (
                "Skill of each pair and window",
                "Reduction of pinball loss against the baseline, in percent; above zero the model is better.",
                _skill_figure(results),
            ),
            (
                "Reliability",
                "Share of closes below each quantile; a perfect forecast lies on the diagonal.",
                _reliability_figure(results),
            ),
            (
                "The newest forecasts",
                f"The last {_FAN_CANDLES} candles of the last window: bands of 50, 80 and 90 %, and the actual close.",
                _fan_figure(results[-1], candles_by_pair, interval),
            ),
            ("Training", "Loss by epoch, one line for each pair and window.", _learning_figure(results)),
        ],
    )


def _page(title: str, intro: str, plots: Sequence[tuple[str, str, Figure]]) -> str:
    """Render a page. intro: HTML; plots: (title, description, figure)."""
    images = "".join(
        f"<h2>{name}</h2><p>{text}</p><img alt='{name}' src='data:image/png;base64,{_png(figure)}'>"
        for name, text, figure in plots
    )
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title>"
        f"<style>{_STYLE}</style><h1>{title}</h1>{intro}{images}</html>"
    )


def _skills(summary: Summary) -> pd.DataFrame:
    rows = {
        _TITLES[item.baseline]: (f"{item.skill:+.2%}", f"{item.won:.0%}", f"{item.t:.1f}") for item in summary.skills
    }
    columns = pd.Index(["skill", "won", "t"], name="compared with")
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def _facts(summary: Summary) -> pd.DataFrame:
    rows = {
        "coverage of the 80 % band": f"{summary.coverage_80:.1%}",
        "coverage of the 90 % band": f"{summary.coverage_90:.1%}",
        "MAE of the median, gain over naive": f"{summary.mae_gain:+.2%}",
        "RMSE of the median, gain over naive": f"{summary.rmse_gain:+.2%}",
        "direction correct": f"{summary.direction:.1%}",
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def _skill_figure(results: Sequence[WindowResult]) -> Figure:
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    pairs = sorted({result.pair for result in results})
    chosen = ("naive", "garch_t", "linear_har")
    for offset, name in enumerate(chosen):
        x = [pairs.index(result.pair) + 0.2 * (offset - 1) for result in results]
        y = [
            100 * (1 - result.forecasts[MODEL].losses.mean() / result.forecasts[name].losses.mean())
            for result in results
        ]
        axes.scatter(x, y, s=18, label=_TITLES[name])
    axes.axhline(0, color="#888", linewidth=1)
    axes.set_xticks(range(len(pairs)), pairs, rotation=30)
    axes.set_ylabel("skill, %")
    figure.legend(loc="outside upper center", ncols=len(chosen))
    return figure


def _reliability_figure(results: Sequence[WindowResult]) -> Figure:
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#888", linewidth=1)
    for name, color in ((MODEL, _INK), ("garch_t", _SOFT)):
        below = [
            (item.target[:, None] <= item.quantiles).mean(axis=0)
            for item in (result.forecasts[name] for result in results)
        ]
        axes.plot(QUANTILE_LEVELS, np.mean(below, axis=0), "o-", color=color, label=name)
    axes.set_xlabel("level")
    axes.set_ylabel("share of closes below")
    axes.legend()
    return figure


def _fan_figure(result: WindowResult, candles_by_pair: Mapping[str, Candles], interval: Interval) -> Figure:
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    forecast, candles = result.forecasts[MODEL], candles_by_pair[result.pair]
    tail = slice(-_FAN_CANDLES, None)
    times = forecast.target_open_ms[tail]
    known = np.searchsorted(candles.open_time_ms, times - interval.ms, side="right") - 1
    last_close = candles.close[known]
    prices = last_close[:, None] * np.exp(forecast.quantiles[tail])
    at = times.astype("datetime64[ms]")
    for low, opacity in ((0, 0.2), (1, 0.3), (2, 0.4)):
        axes.fill_between(at, prices[:, low], prices[:, -1 - low], color=_INK, alpha=opacity, linewidth=0)
    axes.plot(at, last_close * np.exp(forecast.target[tail]), color="black", linewidth=1)
    axes.set_title(result.pair)
    axes.tick_params(axis="x", rotation=30)
    return figure


def _learning_figure(results: Sequence[WindowResult]) -> Figure:
    figure = Figure(figsize=(9, 3), layout="constrained")
    for axes, key in zip(figure.subplots(1, 2), ("train_loss", "validation_loss"), strict=True):
        for result in results:
            losses = np.array([row[key] for row in result.curves])
            change = 100 * (losses / losses[0] - 1)
            axes.plot(range(1, len(losses) + 1), change, color=_INK, alpha=0.4, linewidth=1, marker=".")
        axes.set_title(f"{key.replace('_', ' ')}, % of the first epoch's")
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
    return figure


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return base64.b64encode(buffer.getvalue()).decode()
