"""Texts above the chart of a forecast: the headline, badges with the model's record, and warnings."""

from __future__ import annotations

from collections.abc import Sequence

import dash_mantine_components as dmc
from dash.development.base_component import Component

from dash_app.components.formatting import age, change, price, utc_time
from make_us_rich.database.scores import LatestScore
from make_us_rich.documents import Forecast, PastForecast


def headline(forecast: Forecast) -> Component:
    """Write the 80 % band and the median of the next close as one sentence."""
    quantiles = forecast.quantiles
    median = quantiles["q50"]
    quote = forecast.pair.quote.upper()
    return dmc.Text(
        [
            f"Close at {utc_time(forecast.target_close_ms)}: ",
            dmc.Text(f"{price(quantiles['q10'])} to {price(quantiles['q90'])} {quote}", span=True, fw=700),
            f" with 80 % probability, median {price(median)} ({change(median / forecast.last_close - 1)}).",
        ],
        size="lg",
    )


def badges(forecast: Forecast, past: Sequence[PastForecast], score: LatestScore | None) -> Component:
    """Show how good the model has been, which one it is, and which market its prices come from."""
    model = forecast.model
    items = [
        _skill(model.skill_vs_naive, model.skill_margin),
        _coverage(model.coverage_80),
        *_recent_coverage(past),
        *([_weekly_skill(score)] if score else []),
        _badge(
            "Model",
            f"v{model.version} {model.architecture}, {age(model.age_hours)} old",
            "blue",
            f"{model.name}, trained on candles up to {utc_time(model.as_of_ms)}.",
        ),
        _badge(
            "Market",
            forecast.market,
            "blue",
            f"Last close {price(forecast.last_close)} at {utc_time(forecast.as_of_ms)}.",
        ),
    ]
    return dmc.Group(items, gap=6)


def warnings(forecast: Forecast, score: LatestScore | None, missing: Sequence[str]) -> list[Component]:
    """Return what the reader must know before using the forecast. `missing`: why a chosen model is not shown."""
    flags = forecast.flags
    items = [
        (
            flags.simulated,
            "Simulated market",
            "The prices are generated for the demo and exist on no exchange.",
            "grape",
        ),
        (
            flags.stale,
            "Stale forecast",
            "A newer candle or model could not be fetched; this is the last good forecast.",
            "orange",
        ),
        (flags.expired, "Expired model", "The model is past its maximum age; its bands may be unreliable.", "red"),
        (
            flags.foundation,
            "Foundation model",
            "This pair has no model of its own before its first training run; the model of all pairs is used.",
            "blue",
        ),
        (
            score is not None and score.drifted,
            "Drift",
            f"The last 7 days were worse than the model's evaluation: {score.reason if score else ''}.",
            "orange",
        ),
        (bool(missing), "Model not available", "; ".join(missing), "gray"),
    ]
    return [
        dmc.Alert(dmc.Text([dmc.Text(f"{title}. ", span=True, fw=700), text], size="sm"), color=colour, py="xs")
        for is_shown, title, text, colour in items
        if is_shown
    ]


def _skill(skill: float | None, margin: float | None) -> Component:
    explanation = (
        "Reduction of the pinball loss compared with the naive forecast (a random walk), on four weeks that the model "
        "was not trained on. Above zero is better than naive."
    )
    if skill is None:
        return _badge("Skill", "unknown", "gray", explanation)
    colour = "teal" if skill > 0 else "orange"
    if margin is None:
        return _badge("Skill", f"{skill:+.1%} vs naive", colour, explanation)
    is_significant = abs(skill) > margin
    return _badge(
        "Skill",
        f"{skill:+.1%} ± {margin:.1%} vs naive",
        colour if is_significant else "gray",
        f"{explanation} 95 % confidence interval: {skill - margin:+.1%} to {skill + margin:+.1%}"
        + ("." if is_significant else ", which includes zero: not distinguishable from chance."),
    )


def _coverage(coverage: float | None) -> Component:
    return _badge(
        "Coverage",
        "unknown" if coverage is None else f"{coverage:.0%}",
        "gray" if coverage is None else "teal" if abs(coverage - 0.8) < 0.05 else "orange",
        "Share of closes inside the 80 % band on the same four weeks. A calibrated model is near 80 %.",
    )


def _recent_coverage(past: Sequence[PastForecast]) -> list[Component]:
    inside = [item.inside_80 for item in past if item.inside_80 is not None]
    if not inside:
        return []
    explanation = (
        "Closes inside the 80 % band, among the forecasts served in the last week. The chart marks those outside."
    )
    return [_badge("Served forecasts", f"{sum(inside)} of {len(inside)} inside", "blue", explanation)]


def _weekly_skill(score: LatestScore) -> Component:
    return _badge(
        "Last 7 days",
        f"{score.skill_vs_naive:+.1%} vs naive",
        "orange" if score.drifted else "teal" if score.skill_vs_naive > 0 else "gray",
        f"Skill of the {score.n} forecasts served in the week before {score.as_of:%d %b %H:%M} UTC. "
        "A week is short: a few percent either way are chance.",
    )


def _badge(name: str, value: str, colour: str, explanation: str) -> Component:
    badge = dmc.Badge(
        f"{name}: {value}", color=colour, variant="light", size="lg", px="sm", fz="xs", tt="none", tabIndex=0
    )
    return dmc.Tooltip(
        badge, label=explanation, multiline=True, w=280, events={"hover": True, "focus": True, "touch": True}
    )
