"""The picture of a pair's newest forecast for links that are shared, 1200 x 630 pixels as previews want it.

Previews of links take no SVG, so Pillow draws the parts of the chart that the public pages show.
"""

from __future__ import annotations

import io
from xml.etree import ElementTree

from PIL import Image, ImageDraw, ImageFont

from dash_app.components.colours import BACK, DARK_SHADES, PICTURE_BANDS, SOFT, TEXT
from dash_app.components.formatting import duration, pair_label, price, utc_time
from dash_app.public import charts
from dash_app.records import Live

SIZE = (1200, 630)
_SCALE = 2  # drawn larger, because Pillow's lines have no smooth edges
_LEFT, _TOP, _WIDER, _HIGHER = 60, 166, 1.5, 1.18  # of the chart
_ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}
_COLOURS = {
    **dict(zip(("band outer", "band middle", "band inner"), PICTURE_BANDS, strict=True)),
    **{"median": BACK, "closes": TEXT, "grid": DARK_SHADES[6], "now": DARK_SHADES[4]},
}

Point = tuple[float, float]


def share_picture(live: Live, note: str) -> bytes:
    """Draw a PNG: the last closes, the bands of the coming ones, and the range in words. note: on the market."""
    picture = Image.new("RGB", (SIZE[0] * _SCALE, SIZE[1] * _SCALE), BACK)
    draw = ImageDraw.Draw(picture)
    newest, step = live.newest, live.interval.ms
    for part in ElementTree.fromstring(charts.fan(live.past, step, "")):
        _draw(draw, part)
    sentence = f"80 % chance of {price(newest.prices[-1][1])} to {price(newest.prices[-1][5])}"
    made = f"Make Us Rich, as of {utc_time(newest.as_of_ms)}. {note}".rstrip()
    _write(draw, (120, 172), pair_label(live.pair), 54, TEXT)
    _write(draw, (120, 288), f"{sentence} in {duration(len(newest.prices) * step)}", 34, SOFT)
    _write(draw, (120, 1196), made, 26, SOFT)
    buffer = io.BytesIO()
    picture.resize(SIZE, Image.Resampling.LANCZOS).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _draw(draw: ImageDraw.ImageDraw, part: ElementTree.Element) -> None:
    """Draw an element of the SVG in the colour of its class."""
    colour, given = _COLOURS.get(part.get("class", "")), part.attrib
    points = [_place(*point.split(",")) for point in given.get("points", "").split()]
    match part.tag:
        case "polygon":
            draw.polygon(points, fill=colour)
        case "polyline" if len(points) > 1:
            draw.line(points, fill=colour, width=3 * _SCALE, joint="curve")
        case "line":
            draw.line([_place(given["x1"], given["y1"]), _place(given["x2"], given["y2"])], fill=colour, width=_SCALE)
        case "circle":
            draw.circle(_place(given["cx"], given["cy"]), 7 * _SCALE, fill=TEXT, outline=BACK, width=2 * _SCALE)
        case "text":
            _write(draw, _place(given["x"], given["y"]), part.text or "", 22, SOFT, _ANCHORS[given["text-anchor"]])


def _place(x: str, y: str) -> Point:
    return _SCALE * (_LEFT + float(x) * _WIDER), _SCALE * (_TOP + float(y) * _HIGHER)


def _write(draw: ImageDraw.ImageDraw, place: Point, text: str, size: int, colour: str, anchor: str = "ls") -> None:
    font = ImageFont.load_default(size * _SCALE)  # Pillow brings this one along
    draw.text(place, text, font=font, fill=colour, anchor=anchor)
