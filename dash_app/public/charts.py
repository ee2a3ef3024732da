"""Charts as SVG, drawn on the server. Classes of static/public.css give the colours of the light and dark schemes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape

from markupsafe import Markup

from dash_app.components.formatting import duration, percent, utc_time
from make_us_rich.database.forecasts import ServedForecast
from make_us_rich.documents import QUANTILE_LEVELS
from make_us_rich.record.figures import MeasuredSkill, Share
from make_us_rich.record.track_record import PIT_BINS, Histogram, Recent, Week

_BANDS = ((0, -1, "outer"), (1, -2, "middle"), (2, -3, "inner"))  # quantiles of the 90, 80 and 50 % bands
_SMALL = (360, 230)
_RECENT_ON_PHONES = 48  # closes; more would be thinner than a finger can tell apart

_LETTER = 6.5  # the width of a letter in units of a chart, rather more than less
_HALF_A_TIME = _LETTER * len("25 Nov 10:00 UTC") / 2

Point = tuple[float, float]


def fan(past: Sequence[ServedForecast], step: int, label: str, *, narrow: bool = False) -> Markup:
    """Draw the closes that the forecasts knew, and the bands of the newest forecast. past: oldest first, not empty."""
    width, height, left, right, top, bottom = (360, 270, 4, 62, 10, 30) if narrow else (720, 330, 12, 70, 14, 34)
    newest = past[-1]
    ahead = [[newest.last_close] * 7, *newest.prices]
    prices = [each.last_close for each in past] + [row[index] for row in newest.prices for index in (0, -1)]
    low, high = min(prices), max(prices)
    pad = (high - low) * 0.06 or high * 0.001
    low, high = low - pad, high + pad
    first_ms, last_ms = past[0].as_of_ms, newest.as_of_ms + len(newest.prices) * step

    def x(time_ms: float) -> float:
        return left + (width - left - right) * (time_ms - first_ms) / max(1, last_ms - first_ms)

    def y(value: float) -> float:
        return top + (height - top - bottom) * (high - value) / (high - low)

    times = [newest.as_of_ms + index * step for index in range(len(ahead))]
    parts = _price_grid(low, high, y, left, width - right)
    for bottom_index, top_index, name in _BANDS:
        upper = [(x(time), y(row[top_index])) for time, row in zip(times, ahead, strict=True)]
        lower = [(x(time), y(row[bottom_index])) for time, row in zip(times, ahead, strict=True)]
        parts.append(f'<polygon class="band {name}" points="{_points([*upper, *reversed(lower)])}"/>')
    parts.append(_path([(x(time), y(row[3])) for time, row in zip(times, ahead, strict=True)], "median"))
    parts.append(_path([(x(each.as_of_ms), y(each.last_close)) for each in past], "closes"))
    now = x(newest.as_of_ms)
    parts.append(_line(now, top, now, height - bottom, "now"))
    parts.append(f'<circle class="last" cx="{now:.1f}" cy="{y(newest.last_close):.1f}" r="4"/>')
    half, ahead_text = _HALF_A_TIME, f"+{duration(last_ms - newest.as_of_ms)}"
    end = width - right - _LETTER * (len(ahead_text) + 1)
    parts.append(_text(min(max(now, left + half), end - half), height - 10, utc_time(newest.as_of_ms), "middle"))
    parts.append(_text(width - right, height - 10, ahead_text, "end"))
    return _svg(width, height, label, parts, _size_class(narrow))


def recent_closes(recent: Sequence[Recent], step: int, *, narrow: bool = False) -> Markup:
    """Draw each 80 % band as a bar with its median, and the actual close: a dot inside its band, a cross outside."""
    width, height, left, right, top, bottom = (360, 270, 4, 62, 10, 30) if narrow else (720, 330, 12, 70, 14, 34)
    shown = recent[-_RECENT_ON_PHONES:] if narrow else recent
    low, high = (end(value for each in shown for value in (each.low, each.close, each.high)) for end in (min, max))
    pad = (high - low) * 0.05 or high * 0.001
    low, high = low - pad, high + pad
    first_ms = shown[0].target_close_ms
    slots = (shown[-1].target_close_ms - first_ms) // step + 1
    slot = (width - left - right) / slots
    bar, arm = min(slot * 0.8, 24.0), min(4.5, max(2.5, slot * 0.5))

    def x(each: Recent) -> float:
        return left + slot * ((each.target_close_ms - first_ms) / step + 0.5)

    def y(value: float) -> float:
        return top + (height - top - bottom) * (high - value) / (high - low)

    parts = _price_grid(low, high, y, left, width - right)
    every = -(-slots // (3 if narrow else 7))
    for each in shown:
        if (each.target_close_ms - first_ms) // step % every == every // 2:
            parts.append(_text(x(each), height - 10, utc_time(each.target_close_ms).removesuffix(" UTC"), "middle"))
    bands, medians, hits, misses = list[str](), list[str](), list[str](), list[str]()
    for each in shown:
        at, close = x(each), y(each.close)
        bands.append(f"M{at - bar / 2:.1f} {y(each.high):.1f}h{bar:.1f}V{y(each.low):.1f}h{-bar:.1f}z")
        medians.append(f"M{at - bar / 2:.1f} {y(each.median):.1f}h{bar:.1f}")
        if each.inside:
            hits.append(f"M{at:.1f} {close:.1f}h0")
        else:
            across = f"{2 * arm:.1f}"
            misses.append(f"M{at - arm:.1f} {close - arm:.1f}l{across} {across}m0 -{across}l-{across} {across}")
    drawn = {"band middle": bands, "mid": medians, "inside": hits, "missed": misses}
    parts += [f'<path class="{name}" d="{"".join(lines)}"/>' for name, lines in drawn.items() if lines]
    label = f"The last {len(shown)} closes with their 80 % bands: {len(hits)} inside, {len(misses)} outside"
    return _svg(width, height, label, parts, _size_class(narrow))


def weekly_coverage(weeks: Sequence[Week], *, narrow: bool = False) -> Markup:
    """Draw the share of closes inside the 80 % band by week, each with its 95 % interval, cut at the axis."""
    width, height, left, right, top, bottom = (360, 230, 46, 8, 10, 30) if narrow else (720, 250, 48, 12, 12, 34)
    most = max(week.coverage.n for week in weeks)
    whole = [week.coverage for week in weeks if week.coverage.n > most / 2]
    floor = min(0.5, math.floor(min(share.low for share in whole) * 10) / 10)

    def y(value: float) -> float:
        return top + (height - top - bottom) * (1 - value) / (1 - floor)

    slot = (width - left - right) / max(len(weeks), 6)
    parts = []
    for tenths in range(round(floor * 10), 11, 1 if floor >= 0.5 and not narrow else 2):
        parts.append(_line(left, y(tenths / 10), width - right, y(tenths / 10), "grid"))
        parts.append(_text(left - 8, y(tenths / 10) + 4, f"{tenths * 10} %", "end"))
    parts.append(_line(left, y(0.8), width - right, y(0.8), "target"))
    every = -(-len(weeks) // (4 if narrow else 8))
    for index, week in enumerate(weeks):
        at, share = left + slot * (index + 0.5), week.coverage
        name = "hit" if share.low <= 0.8 <= share.high else "off"
        title = f"<title>{escape(_week_text(week))}</title>"
        parts.append(f'<g class="{name}">{title}{_line(at, y(max(floor, share.low)), at, y(share.high), "whisker")}')
        parts.append(f'<circle cx="{at:.1f}" cy="{y(max(floor, share.value)):.1f}" r="{min(5, slot / 3):.1f}"/></g>')
        if index % every == 0:
            parts.append(_text(at, height - 10, f"{week.monday:%d %b}", "middle"))
    label = f"Share of closes inside the 80 % band in {len(weeks)} weeks, newest: {_week_text(weeks[-1])}"
    return _svg(width, height, label, parts, _size_class(narrow))


def reliability(shares: Sequence[Share]) -> Markup:
    """Draw how often the close was below each quantile, against how often it should have been."""
    width, height = _SMALL
    left, right, top, bottom = 46, 16, 12, 40

    def x(value: float) -> float:
        return left + (width - left - right) * value

    def y(value: float) -> float:
        return top + (height - top - bottom) * (1 - value)

    parts = [_line(x(0), y(0), x(1), y(1), "target")]
    for tick in (0.0, 0.5, 1.0):
        parts.append(_line(left, y(tick), width - right, y(tick), "grid"))
        parts.append(_text(left - 8, y(tick) + 4, _whole(tick), "end"))
        parts.append(_text(x(tick), height - 22, _whole(tick), "middle"))
    for level, share in zip(QUANTILE_LEVELS, shares, strict=True):
        name = "hit" if share.low <= level <= share.high else "off"
        text = f"forecast {_whole(level)}, observed {percent(share.value)} ({_interval(share)})"
        whisker = _line(x(level), y(share.low), x(level), y(share.high), "whisker")
        parts.append(f'<g class="{name}"><title>{text}</title>{whisker}')
        parts.append(f'<circle cx="{x(level):.1f}" cy="{y(share.value):.1f}" r="4.5"/></g>')
    parts.append(_text(x(0.5), height - 4, "forecast probability of a lower close", "middle"))
    pairs = (f"{_whole(level)}: {percent(share.value)}" for level, share in zip(QUANTILE_LEVELS, shares, strict=True))
    return _svg(width, height, f"Share of closes below each quantile. {', '.join(pairs)}", parts)


def pit_histogram(histogram: Histogram) -> Markup:
    """Draw how many closes fell into each tenth of the forecast distribution, and the range that is right."""
    width, height = _SMALL
    left, right, top, bottom = 46, 16, 12, 40
    highest = max(*histogram.counts, histogram.high) * 1.08
    total = sum(histogram.counts)

    def y(count: float) -> float:
        return top + (height - top - bottom) * (1 - count / highest)

    slot = (width - left - right) / PIT_BINS
    band = f'height="{y(histogram.low) - y(histogram.high):.1f}"'
    parts = [f'<rect class="expected" x="{left}" y="{y(histogram.high):.1f}" width="{width - left - right}" {band}/>']
    for index, count in enumerate(histogram.counts):
        name = "bar hit" if histogram.low <= count <= histogram.high else "bar off"
        size = f'width="{slot - 4:.1f}" height="{y(0) - y(count):.1f}"'
        box = f'x="{left + slot * index + 2:.1f}" y="{y(count):.1f}" {size}'
        parts.append(f'<rect class="{name}" {box}><title>{count} of {total} closes</title></rect>')
    parts.append(_line(left, y(total / PIT_BINS), width - right, y(total / PIT_BINS), "target"))
    parts.append(_text(left - 8, y(total / PIT_BINS) + 4, "10 %", "end"))
    for index in (0, 5, 10):
        parts.append(_text(left + slot * index, height - 22, f"{index * 10} %", "middle"))
    parts.append(_text(left + slot * 5, height - 4, "where in its distribution the close fell", "middle"))
    label = f"Closes in each tenth of the forecast distribution: {', '.join(map(str, histogram.counts))}"
    return _svg(width, height, label, parts)


def skills(found: Sequence[MeasuredSkill]) -> Markup:
    """Draw the skill against each baseline with its margin, around a line at zero."""
    width, left, right, row = 360, 64, 20, 44
    height = row * len(found) + 34
    ends = [each.value + sign * (each.margin or 0) for each in found for sign in (-1, 1)]
    reach = max(0.01, *(abs(end) for end in ends)) * 1.1
    low, high = min(0.0, min(ends)) - reach * 0.12, max(0.0, max(ends)) + reach * 0.12

    def x(value: float) -> float:
        return left + (width - left - right) * (value - low) / (high - low)

    parts = []
    for tick in _nice_ticks(low, high, 4):
        parts.append(_line(x(tick), 8, x(tick), height - 30, "target" if abs(tick) < 1e-12 else "grid"))
        parts.append(_text(x(tick), height - 12, _tick(tick, 0 if reach > 0.02 else 1), "middle"))
    for index, each in enumerate(found):
        at = 8 + row * (index + 0.5)
        parts.append(_text(left - 10, at + 4, each.baseline, "end"))
        parts.append(f'<g class="{verdict(each)[0]}">')
        if each.margin is not None:
            parts.append(_line(x(each.value - each.margin), at, x(each.value + each.margin), at, "whisker"))
        parts.append(f'<circle cx="{x(each.value):.1f}" cy="{at:.1f}" r="5"/></g>')
    return _svg(width, height, f"Skill. {'; '.join(skill_text(each) for each in found)}", parts)


def verdict(each: MeasuredSkill) -> tuple[str, str]:
    """Return a class of the style sheet, and what a skill and its margin mean."""
    if each.margin is None:
        return "open", "too few forecasts to judge"
    if abs(each.value) <= each.margin:
        return "open", "no clear difference"
    return ("hit", "better beyond noise") if each.value > 0 else ("off", "worse beyond noise")


def skill_text(each: MeasuredSkill) -> str:
    """Write a skill with its margin: against GARCH +2.3 % ± 0.8 %."""
    margin = f" ± {percent(each.margin, decimals=1)}" if each.margin is not None else ""
    return f"against {each.baseline} {percent(each.value, decimals=1, signed=True)}{margin}"


def _price_grid(low: float, high: float, y: Callable[[float], float], left: float, right: float) -> list[str]:
    """Draw lines at round prices, with the prices to the right of them."""
    ticks = _nice_ticks(low, high, 4)
    decimals = max(0, -math.floor(math.log10(ticks[1] - ticks[0]))) if len(ticks) > 1 else 2
    parts = []
    for tick in ticks:
        parts.append(_line(left, y(tick), right, y(tick), "grid"))
        parts.append(_text(right + 8, y(tick) + 4, f"{tick:,.{decimals}f}"))
    return parts


def _size_class(narrow: bool) -> str:
    """Return the class that shows a chart on phones alone, or everywhere else."""
    return "on-phone" if narrow else "not-on-phone"


def _week_text(week: Week) -> str:
    share = week.coverage
    return f"week of {week.monday:%d %b %Y}: {percent(share.value)} of {share.n} closes ({_interval(share)})"


def _interval(share: Share) -> str:
    return f"{percent(share.low)} to {percent(share.high)}"


def _whole(value: float) -> str:
    return f"{value * 100:.0f} %"


def _tick(value: float, digits: int) -> str:
    return f"{value * 100:+.{digits}f} %" if abs(value) > 1e-12 else "0 %"


def _nice_ticks(low: float, high: float, count: int) -> list[float]:
    """Return about `count` round numbers from `low` to `high`."""
    raw = (high - low) / count
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * size for factor in (1, 2, 5, 10) if factor * size >= raw)
    return [index * step for index in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _svg(width: int, height: int, label: str, parts: Iterable[str], name: str = "") -> Markup:
    size = f'viewBox="0 0 {width} {height}"'
    return Markup(f'<svg class="chart {name}" {size} role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>')


def _line(x1: float, y1: float, x2: float, y2: float, name: str) -> str:
    return f'<line class="{name}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _path(points: Sequence[Point], name: str) -> str:
    return f'<polyline class="{name}" points="{_points(points)}"/>'


def _points(points: Iterable[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
