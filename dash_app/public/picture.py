"""The picture of a pair's newest forecast for links that are shared, 1200 x 630 pixels as previews want it."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from dash_app.components.colours import BACK, PICTURE_BANDS, SOFT, TEXT
from dash_app.components.formatting import duration, pair_label, price, utc_time
from dash_app.records import Live

SIZE = (1200, 630)
_SCALE = 2  # drawn larger, because Pillow's lines have no smooth edges
_BANDS = ((0, -1), (1, -2), (2, -3))  # 90, 80 and 50 %
_PLOT = (60, 190, 1010, 540)  # left, top, right, bottom

Point = tuple[float, float]


def share_picture(live: Live, note: str) -> bytes:
    """Draw a PNG: the last closes, the bands of the coming ones, and the range in words. note: on the market."""
    picture = Image.new("RGB", (SIZE[0] * _SCALE, SIZE[1] * _SCALE), BACK)
    draw = ImageDraw.Draw(picture)
    newest, step = live.newest, live.interval.ms
    ahead = [[newest.last_close] * 7, *newest.prices]
    low = min(min(row[0] for row in ahead), min(each.last_close for each in live.past))
    high = max(max(row[-1] for row in ahead), max(each.last_close for each in live.past))
    first_ms, last_ms = live.past[0].as_of_ms, newest.as_of_ms + len(newest.prices) * step
    left, top, right, bottom = _PLOT

    def at(time_ms: float, value: float) -> Point:
        across = (time_ms - first_ms) / max(1, last_ms - first_ms)
        up = (value - low) / max(high - low, 1e-12)
        return (left + (right - left) * across) * _SCALE, (bottom - (bottom - top) * up) * _SCALE

    times = [newest.as_of_ms + index * step for index in range(len(ahead))]
    for (lower, upper), colour in zip(_BANDS, PICTURE_BANDS, strict=True):
        top_edge = [at(time, row[upper]) for time, row in zip(times, ahead, strict=True)]
        bottom_edge = [at(time, row[lower]) for time, row in zip(times, ahead, strict=True)]
        draw.polygon([*top_edge, *reversed(bottom_edge)], fill=colour)
    closes = [at(each.as_of_ms, each.last_close) for each in live.past]
    draw.line([at(time, row[3]) for time, row in zip(times, ahead, strict=True)], fill=BACK, width=3 * _SCALE)
    if len(closes) > 1:
        draw.line(closes, fill=TEXT, width=3 * _SCALE, joint="curve")
    _dot(draw, closes[-1])
    _label_ends(draw, newest.prices[-1], [at(last_ms, value)[1] for value in newest.prices[-1]])
    _write(draw, (60, 44), pair_label(live.pair), 54, TEXT)
    sentence = f"80 % chance of {price(newest.prices[-1][1])} to {price(newest.prices[-1][5])}"
    _write(draw, (60, 116), f"{sentence} in {duration(last_ms - newest.as_of_ms)}", 34, SOFT)
    _write(draw, (60, 574), f"Make Us Rich, as of {utc_time(newest.as_of_ms)}. {note}".rstrip(), 26, SOFT)
    buffer = io.BytesIO()
    picture.resize(SIZE, Image.Resampling.LANCZOS).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _label_ends(draw: ImageDraw.ImageDraw, prices: Sequence[float], heights: Sequence[float]) -> None:
    """Write the median and the ends of the 80 % band to the right of the fan."""
    for index in (5, 3, 1):
        colour = TEXT if index == 3 else SOFT
        _write(draw, (_PLOT[2] + 14, heights[index] / _SCALE - 15), price(prices[index]), 26, colour)


def _dot(draw: ImageDraw.ImageDraw, centre: Point) -> None:
    radius = 7 * _SCALE
    x, y = centre
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=TEXT, outline=BACK, width=2 * _SCALE)


def _write(draw: ImageDraw.ImageDraw, place: Point, text: str, size: int, colour: str) -> None:
    font = ImageFont.load_default(size * _SCALE)  # Pillow brings this one along
    draw.text((place[0] * _SCALE, place[1] * _SCALE), text, font=font, fill=colour)
