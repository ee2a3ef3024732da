"""The figures of a training run in words: what each means, its unit, and which value is good."""

from __future__ import annotations

import math
from collections.abc import Mapping

import dash_mantine_components as dmc
from dash import html
from dash.development.base_component import Component

from dash_app.components.tables import plain_table
from make_us_rich.registry.client import TrainingRun

_PERCENT, _SIGNED, _SMALL, _NUMBER, _COUNT = "{:.1%}", "{:+.1%}", "{:.3%}", "{:.1f}", "{:,.0f}"
# Metric: its name, its format, what is good. Losses and errors are of log returns, so they are shares of the price.
METRICS: Mapping[str, tuple[str, str, str]] = {
    "skill_vs_naive": (
        "Skill, next close",
        _SIGNED,
        "Above 0 %: a smaller loss than the naive forecast, which repeats the last price. Higher is better.",
    ),
    "skill_vs_naive_mean": ("Skill, mean over horizons", _SIGNED, "Higher is better; decides on promotion."),
    "diebold_mariano_t_vs_naive": ("Significance of the skill (t)", _NUMBER, "Above 2: better beyond noise."),
    "coverage_50": ("Coverage of the 50 % band", _PERCENT, "Good near 50 %. Lower: the band is too narrow."),
    "coverage_80": ("Coverage of the 80 % band", _PERCENT, "Good near 80 %. Lower: the band is too narrow."),
    "coverage_90": ("Coverage of the 90 % band", _PERCENT, "Good near 90 %. Lower: the band is too narrow."),
    "direction": ("Direction right", _PERCENT, "50 % is a coin toss. Higher is better."),
    "pinball": ("Forecast error (pinball loss), share of the price", _SMALL, "Lower is better."),
    "pinball_naive": ("Forecast error of the naive forecast", _SMALL, "The model should be below it."),
    "mae": ("Mean error of the median, share of the price", _SMALL, "Lower is better."),
    "mae_naive": ("Mean error of the naive forecast", _SMALL, "The model should be below it."),
    "holdout_candles": ("Candles not trained on", _COUNT, "All figures here are measured on these held-out candles."),
}
_BAND_TOLERANCE = 0.05


def _is_poor(metrics: Mapping[str, float], key: str) -> bool:
    """Tell whether a metric is worse than what METRICS calls good, beyond what a held-out sample lets one say."""
    value = metrics[key]
    match key:
        case "skill_vs_naive" | "skill_vs_naive_mean":
            return value <= 0
        case "diebold_mariano_t_vs_naive":
            return value < 2
        case "direction":
            return value < 0.5
        case "pinball" | "mae":
            return value >= metrics.get(f"{key}_naive", math.inf)
        case "coverage_50" | "coverage_80" | "coverage_90":
            return abs(value - int(key[-2:]) / 100) > _BAND_TOLERANCE
    return False


LOSSES = ("train_loss", "validation_loss")


def metrics_table(run: TrainingRun) -> Component:
    """Explain the known metrics; all others, and the parameters, are in a list that opens on a click."""
    rows = [
        (label, _value(run.metrics, key, form), good)
        for key, (label, form, good) in METRICS.items()
        if key in run.metrics
    ]
    others = {key: f"{value:.5g}" for key, value in sorted(run.metrics.items()) if key not in (*METRICS, *LOSSES)}
    all_others = others | dict(sorted(run.params.items()))
    listed = [(key.replace("_", " "), value) for key, value in all_others.items()]
    details = html.Details(
        [
            html.Summary(f"All other metrics and parameters ({len(listed)})"),
            plain_table(("Name", "Value"), listed, min_width=280),
        ]
    )
    known = [plain_table(("Metric", "Value", "What is good"), rows, min_width=420)] if rows else []
    return dmc.Stack([*known, *([details] if listed else [])], gap="sm")


def _value(metrics: Mapping[str, float], key: str, form: str) -> Component | str:
    """Return a value as text, with a mark when it is poor."""
    text = _written(metrics, key, form)
    if not _is_poor(metrics, key):
        return text
    mark = dmc.Badge("poor", color="orange", variant="light", tt="none", miw="max-content")
    return dmc.Group([dmc.Text(text, size="sm"), mark], gap="xs")


def _written(metrics: Mapping[str, float], key: str, form: str) -> str:
    text = form.format(metrics[key])
    if key == "skill_vs_naive" and "skill_margin" in metrics:
        text += f" ± {metrics['skill_margin']:.1%}"
    return text.replace("%", " %")
