"""Reports of a backtest: a table for the terminal, and one HTML file with embedded plots."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from make_us_rich.core.interval import Interval
from make_us_rich.core.times import from_ms
from make_us_rich.documents import HORIZONS, QUANTILE_LEVELS
from make_us_rich.forecasting.backtest import MODEL, Summary, WindowResult, summarise
from make_us_rich.forecasting.evaluation import HorizonSeries, random_walk_inside
from make_us_rich.market.candles import Candles

TITLES = {
    "naive": "naive: the price stays, quantiles of 180 days",
    "rolling": "quantiles of the last 30 days",
    "ewma": "EWMA volatility × root of the horizon",
    "garch_t": "GARCH(1,1)-t, filtered historical simulation",
    "log_har": "log-HAR volatility, constant quantiles",
    "linear_har": "linear quantile regression, HAR, scaled by log-HAR",
}
_FAN_CANDLES = 72
_INK = "#1f4e79"
_COLOURS = ("#7f7f7f", "#c2255c", _INK, "#d97706")
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse}td,th{padding:.2rem .8rem;border-bottom:1px solid #ddd;text-align:right}"
    "td:first-child,th:first-child{text-align:left}img{max-width:100%}"
)


def table(summary: Summary) -> str:
    """Format the summary as plain text: one line for each baseline, one column for each horizon."""
    facts = _facts(summary).to_string()
    return f"{summary.windows} pair-windows\n\n{_skills(summary).to_string()}\n\n{facts}\n\n{_paths(summary)}"


def line(result: WindowResult) -> str:
    """Format one result as a line of text, to show progress."""
    day = from_ms(result.start_ms).date()
    first = result.forecasts[1]
    skills = (f"{name} {_skill(first[MODEL], other):+.2%}" for name, other in first.items() if name != MODEL)
    return f"{result.pair} {day}, next close: {', '.join(skills)}"


def html_report(results: Sequence[WindowResult], candles_by_pair: Mapping[str, Candles], interval: Interval) -> str:
    """Render the backtest as a self-contained HTML page."""
    summary = summarise(results)
    tables = (_skills(summary), _facts(summary))
    intro = "<p></p>".join(item.to_html(border=0) for item in tables) + f"<p>{_paths(summary)}</p>"
    return _page(
        f"Backtest: {summary.windows} pair-windows",
        intro,
        [
            (
                "Skill by horizon",
                "Reduction of pinball loss against the baseline, in percent: the mean over pairs and windows, and the "
                "middle half of them; above zero the model is better.",
                _skill_figure(results),
            ),
            (
                "Reliability",
                "Share of closes below each quantile, a line for each horizon; a perfect forecast is on the diagonal.",
                _reliability_figure(results),
            ),
            (
                "Probabilities",
                "Share of closes above a price against its forecast probability, for prices 0, 1 and 2 standard "
                "deviations around the last close; a line for each horizon.",
                _probability_figure(summary),
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
    """Return skill, t and the share of windows won against each baseline, one column for each horizon."""
    columns = {
        _ahead(item.horizon): [f"{skill.skill:+.2%} (t {skill.t:.1f}, won {skill.won:.0%})" for skill in item.skills]
        for item in summary.horizons
    }
    names = [TITLES[skill.baseline] for skill in summary.horizons[0].skills]
    return pd.DataFrame(columns, index=pd.Index(names, name="skill compared with"))


def _facts(summary: Summary) -> pd.DataFrame:
    rows = {
        "coverage of the 80 % band": [f"{item.coverage_80:.1%}" for item in summary.horizons],
        "coverage of the 90 % band": [f"{item.coverage_90:.1%}" for item in summary.horizons],
        "pair-windows outside 75-85 % of the 80 % band": [f"{item.uneven_coverage:.0%}" for item in summary.horizons],
        "MAE of the median, gain over naive": [f"{item.mae_gain:+.2%}" for item in summary.horizons],
        "RMSE of the median, gain over naive": [f"{item.rmse_gain:+.2%}" for item in summary.horizons],
        "direction correct": [f"{item.direction:.1%}" for item in summary.horizons],
        "Brier score of probabilities, gain over naive": [
            f"{1 - item.probabilities.brier / item.probabilities.brier_naive:+.2%}" for item in summary.horizons
        ],
        "Brier score of a rise, gain over naive": [
            f"{1 - item.probabilities.brier_up / item.probabilities.brier_up_naive:+.2%}" for item in summary.horizons
        ],
        "closes beyond the 1 % and 99 % points": [f"{item.probabilities.beyond_1:.1%}" for item in summary.horizons],
    }
    columns = [_ahead(item.horizon) for item in summary.horizons]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def _paths(summary: Summary) -> str:
    if summary.inside_throughout is None:
        return "the model forecasts one horizon"
    return (
        f"{summary.inside_throughout:.1%} of the paths over {HORIZONS} candles stay inside the 80 % band throughout; "
        f"{random_walk_inside(HORIZONS):.1%} of Gaussian random walks would"
    )


def _ahead(horizon: int) -> str:
    return "next close" if horizon == 1 else f"{horizon} candles"


def _skill(ours: HorizonSeries, other: HorizonSeries) -> float:
    return float(1 - ours.losses.mean() / other.losses.mean())


def _skill_figure(results: Sequence[WindowResult]) -> Figure:
    """Plot skill against horizon: the mean over pair-windows, and the middle half of them."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    horizons = list(results[0].forecasts)
    for name, color in zip(("naive", "ewma", "garch_t", "log_har"), _COLOURS, strict=True):
        skills = [
            [100 * _skill(result.forecasts[horizon][MODEL], result.forecasts[horizon][name]) for result in results]
            for horizon in horizons
        ]
        low, high = np.quantile(skills, (0.25, 0.75), axis=1)
        axes.plot(horizons, np.mean(skills, axis=1), "o-", color=color, label=TITLES[name])
        axes.fill_between(horizons, low, high, color=color, alpha=0.15, linewidth=0)
    axes.axhline(0, color="#888", linewidth=1)
    axes.set_xscale("log", base=2)
    axes.set_xticks(horizons, [str(horizon) for horizon in horizons])
    axes.set_xlabel("candles ahead")
    axes.set_ylabel("skill, %")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def _reliability_figure(results: Sequence[WindowResult]) -> Figure:
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#888", linewidth=1)
    horizons = list(results[0].forecasts)
    for index, horizon in enumerate(horizons):
        items = [result.forecasts[horizon][MODEL] for result in results]
        below = [(item.target[:, None] <= item.quantiles).mean(axis=0) for item in items]
        alpha = 1 - 0.7 * index / len(horizons)
        axes.plot(QUANTILE_LEVELS, np.mean(below, axis=0), "o-", color=_INK, alpha=alpha, label=_ahead(horizon))
    axes.set_xlabel("level")
    axes.set_ylabel("share of closes below")
    axes.legend()
    return figure


def _probability_figure(summary: Summary) -> Figure:
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#888", linewidth=1)
    for index, item in enumerate(summary.horizons):
        alpha = 1 - 0.7 * index / len(summary.horizons)
        score = item.probabilities
        axes.plot(score.forecast, score.came, "o-", color=_INK, alpha=alpha, label=_ahead(item.horizon))
    axes.set_xlabel("probability of a close above the price")
    axes.set_ylabel("share of closes above it")
    axes.legend()
    return figure


def _fan_figure(result: WindowResult, candles_by_pair: Mapping[str, Candles], interval: Interval) -> Figure:
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    forecast, candles = result.forecasts[1][MODEL], candles_by_pair[result.pair]
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
