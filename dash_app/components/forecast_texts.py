"""What the page says about a forecast, in words."""

from __future__ import annotations

from collections.abc import Sequence

import dash_mantine_components as dmc
from dash.development.base_component import Component

from dash_app.components.formatting import age, change, clock, price
from make_us_rich.client import Forecast, PastForecast
from make_us_rich.database.scores import LatestScore


def sentence(forecast: Forecast) -> Component:
    quantiles, last = forecast.quantiles, forecast.last_close
    quote = forecast.pair.rpartition("_")[2].upper()
    return dmc.Text(
        [
            f"At {clock(forecast.target_close_ms)} the price closes between ",
            dmc.Text(f"{price(quantiles['q10'])} and {price(quantiles['q90'])} {quote}", span=True, fw=700),
            f" with 80 % probability; the middle is {price(quantiles['q50'])} ({change(quantiles['q50'] / last - 1)}).",
        ],
        size="lg",
    )


def badges(forecast: Forecast, past: Sequence[PastForecast], score: LatestScore | None) -> Component:
    model = forecast.model
    made = [
        _skill(model.skill_vs_naive, model.skill_margin),
        _coverage(model.coverage_80),
        *_hits(past),
        *([_live(score)] if score else []),
        _badge(
            "model",
            f"v{model.version} {model.architecture}, {age(model.age_hours)} old",
            "blue",
            f"{model.name}, trained on candles up to {clock(model.as_of_ms)}.",
        ),
        _badge(
            "prices", forecast.market, "blue", f"Last close {price(forecast.last_close)} at {clock(forecast.as_of_ms)}."
        ),
    ]
    return dmc.Group(made, gap=6)


def _skill(skill: float | None, margin: float | None) -> Component:
    explanation = (
        "Pinball loss saved against “the price stays, as uncertain as ever”, on four weeks that the "
        "model never saw. Above zero is better than naive."
    )
    if skill is None:
        return _badge("skill", "unknown", "gray", explanation)
    colour = "teal" if skill > 0 else "orange"
    if margin is None:
        return _badge("skill", f"{skill:+.1%} vs naive", colour, explanation)
    proven = abs(skill) > margin
    return _badge(
        "skill",
        f"{skill:+.1%} ± {margin:.1%} vs naive",
        colour if proven else "gray",
        f"{explanation} With 95 % confidence it is {skill - margin:+.1%} to {skill + margin:+.1%}"
        + ("." if proven else ": too near to zero to tell from chance."),
    )


def _coverage(coverage: float | None) -> Component:
    return _badge(
        "80 % band",
        "unknown" if coverage is None else f"held {coverage:.0%}",
        "gray" if coverage is None else ("teal" if abs(coverage - 0.8) < 0.05 else "orange"),
        "Share of the same weeks' closes inside the 80 % band. Near 80 % is honest.",
    )


def _hits(past: Sequence[PastForecast]) -> list[Component]:
    judged = [item.inside_80 for item in past if item.inside_80 is not None]
    if not judged:
        return []
    return [
        _badge(
            "served lately",
            f"{sum(judged)} of {len(judged)} inside",
            "blue",
            "Of the last forecasts that were served here: closes inside the 80 % band. The chart marks those outside.",
        )
    ]


def _live(score: LatestScore) -> Component:
    return _badge(
        "this week",
        f"{score.skill_vs_naive:+.1%} vs naive",
        "orange" if score.drifted else "teal" if score.skill_vs_naive > 0 else "gray",
        f"Skill of the {score.n} forecasts served in the week to {score.as_of:%d %b %H:%M} UTC. A week is short: "
        "some percent to either side are chance.",
    )


def _badge(name: str, value: str, colour: str, explanation: str) -> Component:
    return dmc.Tooltip(
        dmc.Badge(
            f"{name}: {value}", color=colour, variant="light", size="lg", px="sm", fz="xs", tt="none", tabIndex=0
        ),
        label=explanation,
        multiline=True,
        w=280,
        events={"hover": True, "focus": True, "touch": True},
    )


def warnings(forecast: Forecast, score: LatestScore | None, missing: Sequence[str]) -> list[Component]:
    flags = forecast.flags
    told = [
        (
            flags.simulated,
            "Simulated market",
            "These prices are made up for the demo. No exchange trades at them.",
            "grape",
        ),
        (
            flags.stale,
            "Stale",
            "A newer candle or model could not be fetched; this is the last good forecast.",
            "orange",
        ),
        (flags.expired, "Old model", "The model is older than it should ever be. Read the bands with doubt.", "red"),
        (
            flags.foundation,
            "Forecast by the model of all pairs",
            "This pair has no model of its own yet. The first training run makes one.",
            "blue",
        ),
        (
            score is not None and score.drifted,
            "Drift",
            f"This week's forecasts did not keep what the model promises: {score.reason if score else ''}.",
            "orange",
        ),
        (bool(missing), "Not shown", "; ".join(missing), "gray"),
    ]
    return [
        dmc.Alert(dmc.Text([dmc.Text(f"{title}. ", span=True, fw=700), text], size="sm"), color=colour, py="xs")
        for is_so, title, text, colour in told
        if is_so
    ]
