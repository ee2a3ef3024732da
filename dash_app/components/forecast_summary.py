"""Texts around the chart of a forecast: the headline, badges, the probability above a price, and warnings."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import shorten

import dash_mantine_components as dmc
from dash.development.base_component import Component

from dash_app.components.entries import read_number
from dash_app.components.formatting import (
    architecture_name,
    change,
    duration,
    pair_label,
    percent,
    price,
    probability,
    utc_day,
    utc_time,
)
from dash_app.components.layout import local_time, running_age
from make_us_rich.core.interval import Interval
from make_us_rich.database.scores import LatestScore
from make_us_rich.documents import SCORED_CANDLES, Forecast, HorizonForecast, Model, PastForecast, Quantiles
from make_us_rich.record.track_record import MeasuredSkill, TrackRecord


def headline(forecast: Forecast, item: HorizonForecast) -> Component:
    """Write the 80 % band and the median of the close at one horizon as one sentence."""
    quantiles = item.quantiles
    median = quantiles["q50"]
    return dmc.Text(
        [
            f"{pair_label(forecast.pair)}, close at ",
            local_time(item.target_close_ms),
            f" ({ahead(forecast, item)}): ",
            dmc.Text(f"{price(quantiles['q10'])} to {price(quantiles['q90'])} {_quote(forecast)}", span=True, fw=700),
            f" with 80\u00a0% probability, median {price(median)} ({change(median / forecast.last_close - 1)}).",
        ],
        size="lg",
    )


def last_price(forecast: Forecast) -> Component:
    """Show the pair, its last close and when that was."""
    return dmc.Group(
        [
            dmc.Text(pair_label(forecast.pair), fw=700),
            dmc.Text(f"{price(forecast.last_close)} {_quote(forecast)}", fw=700, fz=28, lh=1.2),
            dmc.Text(["last close ", local_time(forecast.as_of_ms)], c="dimmed"),
        ],
        gap="md",
        align="baseline",
    )


def since_the_last(forecast: Forecast, past: Sequence[PastForecast]) -> Component | None:
    """Write what changed since the forecast before: how its close came out, and how the band's width changed.

    Returns None where the forecast before is not stored or its close is not known.
    """
    before = next((item for item in past if item.target_close_ms == forecast.as_of_ms and not item.backfilled), None)
    if before is None or before.close is None:
        return None
    low, high = before.quantiles["q10"], before.quantiles["q90"]
    place = "inside" if low <= before.close <= high else "above" if before.close > high else "below"
    width, width_before = (
        _relative_width(forecast.quantiles, forecast.last_close),
        _relative_width(before.quantiles, before.last_close),
    )
    ratio = width / width_before - 1
    by = percent(abs(ratio), decimals=1)
    band = "as wide as before" if abs(ratio) < 0.005 else f"{by} {'wider' if ratio > 0 else 'narrower'}"
    moved = change(before.close / before.last_close - 1)
    move = "did not move" if moved == "no change" else f"moved {moved}"
    return dmc.Text(
        f"Since the last forecast: the price {move} and closed {place} "
        f"the 80 % band ({price(low)} to {price(high)}). The band of the next close is {band}.",
        size="sm",
    )


def _relative_width(quantiles: Quantiles, last_close: float) -> float:
    return (quantiles["q90"] - quantiles["q10"]) / last_close


def horizon_badges(forecast: Forecast, item: HorizonForecast) -> Component:
    """Show what else the forecast says about the close at one horizon, and how good the model was there."""
    is_of_model = item.skill_vs_naive == forecast.model.skill_vs_naive  # whose margin is known
    items = [
        *_probability_up(item.probability_up),
        _badge(
            "Expected move", percent(item.expected_move), "blue", "Mean change of the price until then, up or down."
        ),
        _badge(
            "Volatility",
            f"{percent(item.volatility, decimals=1)} a year",
            "blue",
            "Standard deviation of the log return until then, converted to a year.",
        ),
        _skill(item.skill_vs_naive, forecast.model.skill_margin if is_of_model else None),
        _coverage(item.coverage_80),
    ]
    return dmc.Group(items, gap=6)


def _probability_up(value: float | None) -> list[Component]:
    """Return the badge; none at a horizon where the forecast does not say which way the price goes."""
    return (
        []
        if value is None
        else [_badge("Probability up", probability(value), "blue", "Of a close above the last close.")]
    )


def _adapted(model: Model) -> str:
    """Say up to when a foundation was adapted to the pair; empty for any other model."""
    return "" if model.adapted_ms is None else f", adapted to this pair's candles up to {utc_time(model.adapted_ms)}"


def model_badges(forecast: Forecast, past: Sequence[PastForecast], score: LatestScore | None) -> Component:
    """Show how the served forecasts did, which model makes them, and which market its prices come from."""
    model = forecast.model
    items = [
        *_recent_coverage(past),
        *([_served_skill(forecast, score)] if score else []),
        _badge(
            "Model",
            [
                f"version {model.version}, {architecture_name(model.architecture)}, data until ",
                running_age(model.age_hours),
                " ago",
            ],
            "blue",
            f"{model.name}, trained on candles up to {(utc_day if model.shipped else utc_time)(model.as_of_ms)}"
            f"{_adapted(model)}.",
        ),
        _badge(
            "Market",
            forecast.market,
            "blue",
            f"Last close {price(forecast.last_close)} at {utc_time(forecast.as_of_ms)}.",
        ),
    ]
    return dmc.Group(items, gap=6)


def served_record(record: TrackRecord | None) -> Component:
    """Write how the served forecasts at one horizon did, and how they compare with each baseline.

    record: None before a forecast is scored.
    """
    if record is None:
        text = "No served forecast is scored yet. From then on, this line compares them with EWMA and GARCH."
        return dmc.Text(text, size="sm", c="dimmed")
    since = utc_day(int(record.first_made_at.timestamp() * 1000))
    compared = ", ".join(_against(each, each.margin) for each in record.skills if each.margin is not None)
    text = (
        f"Served {duration(record.horizon * record.interval.ms)} ahead since {since}: "
        f"{percent(record.coverage.value, decimals=1)} of {record.n:,} closes inside the 80 % band; "
        + (compared or "too few for a comparison with EWMA and GARCH")
        + ". "
    )
    href = f"/track-record?pair={record.pair}&interval={record.interval}&horizon={record.horizon}"
    return dmc.Text([text, dmc.Anchor("Track record", href=href, refresh=True, inherit=True)], size="sm")


def _against(skill: MeasuredSkill, margin: float) -> str:
    """Write the comparison with one baseline: 2.1 % ± 0.8 % better than GARCH."""
    interval = f"± {percent(margin, decimals=1)}"
    if abs(skill.value) <= margin:
        return f"no clear difference from {skill.baseline} ({_signed(skill.value)} {interval})"
    by = percent(abs(skill.value), decimals=1)
    return f"{by} {interval} {'better' if skill.value > 0 else 'worse'} than {skill.baseline}"


def probability_above(forecast: Forecast, item: HorizonForecast, entered: str) -> Component:
    """Write the probability of a close above the entered price, or ask for one that can be read."""
    above = read_number(entered)
    if above is None or above <= 0:
        problem = f"“{shorten(entered, 30)}” is no price above 0. " if entered.strip() else ""
        text = f"{problem}Enter a price above 0, such as {price(forecast.last_close)}."
        return dmc.Text(text, size="sm", c="red" if problem else "dimmed")
    return dmc.Text(
        [
            dmc.Text(probability(1 - item.probability_below(above)), span=True, fw=700),
            f" that the close {ahead(forecast, item)} is above {price(above)} {_quote(forecast)}",
        ]
    )


def ahead(forecast: Forecast, item: HorizonForecast) -> str:
    """Write how far after the last close the close of this horizon is: 8 h ahead."""
    return f"{duration(item.target_close_ms - forecast.as_of_ms)} ahead"


def warnings(forecast: Forecast, score: LatestScore | None, missing: Sequence[str]) -> list[Component]:
    """Return what the reader must know before using the forecast. `missing`: why a chosen model is not shown."""
    flags = forecast.flags
    items: list[tuple[bool, str, str | list[Component | str], str]] = [
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
        (
            flags.bridged,
            "Missing candles",
            "The exchange lacks candles of this pair or of BTC; those of the same times of day stand in for them.",
            "orange",
        ),
        (
            flags.expired and not forecast.model.shipped,
            "Expired model",
            "The model is past its maximum age; its bands may be unreliable.",
            "red",
        ),
        (
            forecast.model.shipped,
            "Shipped model",
            [
                "This pair has no model of its own before its first training run; the one that comes with the package "
                "is used. It was not fine-tuned on this pair, and learned from candles up to ",
                f"{utc_day(forecast.model.as_of_ms)}, ",
                running_age(forecast.model.age_hours),
                " ago.",
            ],
            "orange",
        ),
        (
            flags.foundation and not forecast.model.shipped,
            "Foundation model",
            "This pair has no model of its own before its first training run; the model of all pairs is used.",
            "blue",
        ),
        (len(forecast.horizons) == 1, "One candle ahead", "This model forecasts the next close alone.", "blue"),
        (
            score is not None and score.drifted,
            "Drift",
            f"The last {_scored(forecast)} were worse than the model's evaluation: {score.reason if score else ''}.",
            "orange",
        ),
        (bool(missing), "Model not available", "; ".join(missing), "gray"),
    ]
    return [
        dmc.Alert(
            dmc.Text(
                [dmc.Text(f"{title}. ", span=True, fw=700), *([text] if isinstance(text, str) else text)], size="sm"
            ),
            color=colour,
            py="xs",
        )
        for is_shown, title, text, colour in items
        if is_shown
    ]


def _signed(skill: float) -> str:
    return percent(skill, decimals=1, signed=True)


def _skill(skill: float | None, margin: float | None) -> Component:
    explanation = (
        "How much smaller the forecast error (pinball loss) is at this horizon than that of the naive forecast, a "
        "random walk, on candles that the model was not trained on. Above zero is better than naive."
    )
    if skill is None:
        return _badge("Skill", "unknown", "gray", explanation)
    colour = "teal" if skill > 0 else "orange"
    if margin is None:
        return _badge("Skill", f"{_signed(skill)} vs naive", colour, explanation)
    is_significant = abs(skill) > margin
    return _badge(
        "Skill",
        f"{_signed(skill)} ± {percent(margin, decimals=1)} vs naive",
        colour if is_significant else "gray",
        f"{explanation} 95 % confidence interval: {_signed(skill - margin)} to {_signed(skill + margin)}"
        + ("." if is_significant else ", which includes zero: not distinguishable from chance."),
    )


def _coverage(coverage: float | None) -> Component:
    return _badge(
        "Coverage",
        "unknown" if coverage is None else percent(coverage, decimals=1),
        "gray" if coverage is None else "teal" if abs(coverage - 0.8) < 0.05 else "orange",
        "Share of closes inside the 80 % band at this horizon, on the same candles. A calibrated model is near 80 %.",
    )


def _recent_coverage(past: Sequence[PastForecast]) -> list[Component]:
    inside = [item.inside_80 for item in past if item.inside_80 is not None and not item.backfilled]
    if not inside:
        return []
    explanation = (
        "Closes inside the 80 % band of one candle ahead, among the newest served forecasts. The chart marks "
        "those outside."
    )
    return [_badge("Served forecasts", f"{sum(inside)} of {len(inside)} inside", "blue", explanation)]


def _served_skill(forecast: Forecast, score: LatestScore) -> Component:
    return _badge(
        f"Last {_scored(forecast)}",
        f"{_signed(score.skill_vs_naive)} vs naive",
        "orange" if score.drifted else "teal" if score.skill_vs_naive > 0 else "gray",
        f"Skill of the {score.n} forecasts served in the {_scored(forecast)} before {score.as_of:%d %b %H:%M} UTC, "
        f"{'mean over the horizons' if score.horizons else 'of the next close'}. "
        "That is few forecasts: some percent either way are chance.",
    )


def _scored(forecast: Forecast) -> str:
    """Return the time that a score looks back: 7 d of hourly candles."""
    return duration(SCORED_CANDLES * Interval(forecast.interval).ms)


def _quote(forecast: Forecast) -> str:
    return forecast.pair.quote.upper()


def _badge(name: str, value: str | Sequence[Component | str], colour: str, explanation: str) -> Component:
    badge = dmc.Badge(
        [f"{name}: ", *([value] if isinstance(value, str) else value)],
        color=colour,
        variant="light",
        size="lg",
        px="sm",
        fz="xs",
        tt="none",
        tabIndex=0,
    )
    return dmc.Tooltip(
        badge, label=explanation, multiline=True, w=280, events={"hover": True, "focus": True, "touch": True}
    )
