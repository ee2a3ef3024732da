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
from dash_app.components.wording import compared, coverage, skill
from make_us_rich.core.interval import Interval
from make_us_rich.database.scores import LatestScore
from make_us_rich.documents import SCORED_CANDLES, Forecast, HorizonForecast, Model, PastForecast, Quantiles
from make_us_rich.record.track_record import TrackRecord

_SIMULATED = "The prices are generated for the demo and exist on no exchange."
_STALE = "A newer candle or model could not be fetched; this is the last good forecast."
_BRIDGED = "The exchange lacks candles of this pair or of BTC; those of the same times of day stand in for them."
_EXPIRED = "The model is past its maximum age; its bands may be unreliable."
_SHIPPED = (
    "This pair has no model of its own before its first training run; the one that comes with the package is used. It "
    "was not fine-tuned on this pair, and"
)
_FOUNDATION = "This pair has no model of its own before its first training run; the model of all pairs is used."
_ONE_CANDLE = "This model forecasts the next close alone."


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
    """Write what changed since the forecast before: the actual close in its band, and the width of the band.

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
    since = utc_day(record.first_made_at)
    results = ", ".join(
        compared(each.value, each.margin, each.baseline) for each in record.skills if each.margin is not None
    )
    text = (
        f"Served {duration(record.horizon * record.interval.ms)} ahead since {since}: "
        f"{coverage(record.coverage.value)} of {record.n:,} closes inside the 80 % band; "
        + (results or "too few for a comparison with EWMA and GARCH")
        + ". "
    )
    href = f"/track-record?pair={record.pair}&interval={record.interval}&horizon={record.horizon}"
    return dmc.Text([text, dmc.Anchor("Track record", href=href, refresh=True, inherit=True)], size="sm")


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
    flags, model = forecast.flags, forecast.model
    learned = f" learned from candles up to {utc_day(model.as_of_ms)}, "
    shipped: list[Component | str] = [_SHIPPED, learned, running_age(model.age_hours), " ago."]
    drift = f"The last {_scored(forecast)} were worse than the model's evaluation: {score.reason if score else ''}."
    items: list[tuple[bool, str, str | list[Component | str], str]] = [
        (flags.simulated, "Simulated market", _SIMULATED, "grape"),
        (flags.stale, "Stale forecast", _STALE, "orange"),
        (flags.bridged, "Missing candles", _BRIDGED, "orange"),
        (flags.expired and not model.shipped, "Expired model", _EXPIRED, "red"),
        (model.shipped, "Shipped model", shipped, "orange"),
        (flags.foundation and not model.shipped, "Foundation model", _FOUNDATION, "blue"),
        (len(forecast.horizons) == 1, "One candle ahead", _ONE_CANDLE, "blue"),
        (score is not None and score.drifted, "Drift", drift, "orange"),
        (bool(missing), "Model not available", "; ".join(missing), "gray"),
    ]
    return [_warning(title, text, colour) for is_shown, title, text, colour in items if is_shown]


def _warning(title: str, text: str | list[Component | str], colour: str) -> Component:
    words = [text] if isinstance(text, str) else text
    return dmc.Alert(dmc.Text([dmc.Text(f"{title}. ", span=True, fw=700), *words], size="sm"), color=colour, py="xs")


def _skill(value: float | None, margin: float | None) -> Component:
    explanation = (
        "How much smaller the forecast error (pinball loss) is at this horizon than that of the naive forecast, a "
        "random walk, on candles that the model was not trained on. Above zero is better than naive."
    )
    if value is None:
        return _badge("Skill", "unknown", "gray", explanation)
    colour = "teal" if value > 0 else "orange"
    if margin is not None:
        explanation += f" 95 % confidence interval: {skill(value - margin)} to {skill(value + margin)}"
        is_significant = abs(value) > margin
        explanation += "." if is_significant else ", which includes zero: not distinguishable from chance."
        colour = colour if is_significant else "gray"
    return _badge("Skill", f"{skill(value, margin)} vs naive", colour, explanation)


def _coverage(value: float | None) -> Component:
    return _badge(
        "Coverage",
        coverage(value, unknown="unknown"),
        "gray" if value is None else "teal" if abs(value - 0.8) < 0.05 else "orange",
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
        f"{skill(score.skill_vs_naive)} vs naive",
        "orange" if score.drifted else "teal" if score.skill_vs_naive > 0 else "gray",
        f"Skill of the {score.n} forecasts served in the {_scored(forecast)} before {utc_time(score.as_of)}, "
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
