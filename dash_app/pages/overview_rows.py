"""The rows of the overview, as assets/screener.js draws them: texts, and numbers to sort and draw by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from typing_extensions import TypedDict

from dash_app.components.formatting import age, duration, pair_label, percent, price, utc_day, utc_time
from dash_app.components.wording import compared_with_naive, coverage, skill
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.database.scores import LatestScore
from make_us_rich.documents import HORIZON_GRID, HORIZONS, SCORED_CANDLES, Forecast, HorizonForecast

SHOWN_HORIZONS = (1, 8, 24)
"""Candles ahead whose band, expected move, volatility and skill are shown."""
PICTURE_HORIZONS = (1, 2, 4, 6, 8, 12, 16, 20, 24)
"""Candles ahead that the small picture shows."""
READ_HORIZONS = tuple(sorted({*PICTURE_HORIZONS, *HORIZON_GRID}))
"""Candles ahead that the rows need: those of the picture, and those whose skill is averaged."""
PICTURE_CANDLES = HORIZONS
"""Candles before the last close that the small picture shows."""

_BAND = ("q10", "q25", "q50", "q75", "q90")
_ROUND_REACHES = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
_UNCHANGED = 0.00005
_INSIDE_THE_AXIS = 0.95  # of the pairs: one wild pair must not flatten the bars of all others

Closes = Mapping[Pair, Sequence[tuple[int, float]]]
"""By pair, the times in ms and the prices of closes, oldest first."""


class Band(TypedDict):
    """The quantiles 10, 25, 50, 75, 90 % of a close as changes since the last close, and what they are as text."""

    ends: list[float]
    text: str


class Row(TypedDict, total=False):
    """A pair. One without a forecast has pair, label, href and `message`, which says why.

    picture: see `_picture`. By horizon, bands; moves: the mean absolute return, and volatility, per year, both as a
    fraction and as text. skill is the mean over HORIZON_GRID, or that of the next close for a model that was measured
    there alone; skill and coverage, of the next close, are None where they were never measured. skills_text: the skill
    at each horizon. notes: what is unusual about the forecast or its model.
    """

    pair: str
    label: str
    href: str
    message: str
    last_close: float
    last_close_text: str
    picture: str
    bands: dict[str, Band]
    moves: dict[str, tuple[float, str]]
    volatility: dict[str, tuple[float, str]]
    skill: float | None
    skill_text: str
    skills_text: str
    coverage: float | None
    coverage_text: str
    age_hours: float
    age: str
    notes: list[str]


class Horizon(TypedDict):
    """A horizon: candles ahead, how long they last, and how far the axis of the bars reaches to either side."""

    key: str
    label: str
    reach: float
    reach_text: str


class Screener(TypedDict):
    """What the overview shows. span: how long the small pictures reach back, and how far ahead."""

    rows: list[Row]
    horizons: list[Horizon]
    span: str


def screener(
    forecasts: Sequence[Forecast],
    missing: Mapping[str, str],
    scores: Mapping[str, LatestScore],
    closes: Closes,
    interval: Interval,
) -> Screener:
    """Return the rows of all pairs. `missing`: by pair, why it has no forecast."""
    scale = _reach(forecasts, HORIZONS)
    rows = [_row(each, scores.get(each.pair), closes.get(each.pair, ()), scale, interval) for each in forecasts]
    rows += [_named(pair, interval) | {"message": message} for pair, message in missing.items()]
    horizons: list[Horizon] = []
    for horizon in SHOWN_HORIZONS:
        reach = _reach(forecasts, horizon)
        label = duration(horizon * interval.ms)
        horizons.append({"key": str(horizon), "label": label, "reach": reach, "reach_text": f"{reach * 100:g} %"})
    return {"rows": rows, "horizons": horizons, "span": duration(HORIZONS * interval.ms)}


def round_reach(reaches: Iterable[float]) -> float:
    """Return a round number that 95 % of the reaches do not exceed, or all of fewer than 20; 0.01 without a reach."""
    found = sorted(reaches)
    wanted = found[math.ceil(_INSIDE_THE_AXIS * len(found)) - 1] if found else 0.0
    if wanted <= 0:
        return 0.01
    unit = 10.0 ** math.floor(math.log10(wanted))
    return next(step * unit for step in _ROUND_REACHES if step * unit >= wanted * (1 - 1e-9))


def _named(pair: str, interval: str) -> Row:
    return {"pair": pair, "label": pair_label(pair), "href": f"/?pair={pair}&interval={interval}"}


def _row(
    forecast: Forecast, score: LatestScore | None, closes: Sequence[tuple[int, float]], scale: float, interval: Interval
) -> Row:
    model = forecast.model
    mean = _mean_skill(forecast)
    shown = {str(item.horizon): item for item in forecast.horizons if item.horizon in SHOWN_HORIZONS}
    return _named(forecast.pair, interval) | {
        "last_close": forecast.last_close,
        "last_close_text": price(forecast.last_close),
        "picture": _picture(forecast, closes, scale, interval),
        "bands": {key: _band(item, forecast.last_close) for key, item in shown.items()},
        "moves": {key: (item.expected_move, percent(item.expected_move)) for key, item in shown.items()},
        "volatility": {key: (item.volatility, percent(item.volatility, decimals=1)) for key, item in shown.items()},
        "skill": model.skill_vs_naive if mean is None else mean,
        "skill_text": compared_with_naive(model.skill_vs_naive, model.skill_margin)
        if mean is None
        else f"{skill(mean)} in the mean",
        "skills_text": _skills_text(forecast, interval),
        "coverage": model.coverage_80,
        "coverage_text": coverage(model.coverage_80, unknown="no score yet"),
        "age_hours": model.age_hours,
        "age": age(model.age_hours),
        "notes": _notes(forecast, score, interval),
    }


def _mean_skill(forecast: Forecast) -> float | None:
    """Return the mean skill over HORIZON_GRID, which decides on promotions; None where it was not measured."""
    found = [item.skill_vs_naive for item in forecast.horizons if item.horizon in HORIZON_GRID]
    measured = [skill for skill in found if skill is not None]
    return sum(measured) / len(measured) if len(measured) == len(HORIZON_GRID) else None


def _skills_text(forecast: Forecast, interval: Interval) -> str:
    """Write the skill at each shown horizon, such as `1 h +8.2 % ± 1.0 %, 8 h +6.0 %, 24 h +4.1 %`.

    The margin is known of the next close. Where nothing else was measured, the words for the skill speak of it alone.
    """
    skills = {item.horizon: item.skill_vs_naive for item in forecast.horizons if item.horizon in SHOWN_HORIZONS}
    found = {horizon: value for horizon, value in skills.items() if value is not None}
    if list(found) == [1]:
        return "the next close alone"
    margins = {1: forecast.model.skill_margin}
    return ", ".join(
        f"{duration(horizon * interval.ms)} {skill(value, margins.get(horizon))}" for horizon, value in found.items()
    )


def _changes(item: HorizonForecast, last_close: float) -> list[float]:
    return [item.quantiles[name] / last_close - 1 for name in _BAND]


def _band(item: HorizonForecast, last_close: float) -> Band:
    ends = _changes(item, last_close)
    low, high = (percent(end, signed=True) for end in (ends[0], ends[-1]))
    median = "unchanged" if abs(ends[2]) < _UNCHANGED else percent(ends[2], signed=True)
    return {"ends": ends, "text": f"{low} to {high}, median {median}"}


def _reach(forecasts: Sequence[Forecast], horizon: int) -> float:
    """Return how far an axis reaches that shows the 80 % bands at one horizon, as a fraction of the last close."""
    shown = [(item, each.last_close) for each in forecasts for item in each.horizons if item.horizon == horizon]
    return round_reach(max(map(abs, _changes(item, last_close))) for item, last_close in shown)


def _picture(forecast: Forecast, closes: Sequence[tuple[int, float]], scale: float, interval: Interval) -> str:
    """Return three lists of points, separated by |: the last closes, the 80 % band and the 50 % band.

    Right is the time, 0 to 100, with the last close at 50; down is the price, from 0 at `scale` above the last close.
    """

    def point(candles: float, close: float) -> str:
        across, down = 50 + 50 * candles / PICTURE_CANDLES, 50 - 50 * (close / forecast.last_close - 1) / scale
        return f"{across:.0f},{down:.1f}"

    ages = [((time_ms - forecast.as_of_ms) / interval.ms, close) for time_ms, close in closes]
    past = [*(point(candles, close) for candles, close in ages if -PICTURE_CANDLES <= candles < 0), "50,50"]
    items = [item for item in forecast.horizons if item.horizon in PICTURE_HORIZONS]

    def curve(name: str) -> list[str]:
        return ["50,50", *(point(item.horizon, item.quantiles[name]) for item in items)]

    bands = [[*curve(low), *reversed(curve(high))] for low, high in (("q10", "q90"), ("q25", "q75"))]
    return "|".join(" ".join(points) for points in (past, *bands))


def _notes(forecast: Forecast, score: LatestScore | None, interval: Interval) -> list[str]:
    flags, shipped = forecast.flags, forecast.model.shipped
    scored = duration(SCORED_CANDLES * interval.ms)
    items = [
        (flags.stale, f"stale, as of {utc_time(forecast.as_of_ms)}"),
        (shipped, f"shipped model, trained up to {utc_day(forecast.model.as_of_ms)}"),
        (flags.expired and not shipped, "expired model"),
        (flags.foundation and not shipped, "foundation model"),
        (score is not None and score.drifted, f"drift in the last {scored}: {score.reason if score else ''}"),
    ]
    return [text for is_set, text in items if is_set]
