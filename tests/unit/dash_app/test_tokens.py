"""The colours of all pages: their contrast (WCAG 2.2) and whether colour-blind readers can tell them apart."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest

from dash_app.components import colours
from dash_app.components.colours import FALLING, FAN, OUTLINES, OUTSIDE, RISING, rgb
from dash_app.components.forecast_figure import BANDS
from dash_app.components.model_history import MARKS
from tests.support.colours import SCHEMES, contrast, linear, over, token
from tests.support.processes import PROJECT_ROOT

_DASHBOARD = PROJECT_ROOT / "dash_app"
_LITERAL_COLOUR = r"#[0-9a-fA-F]{3,8}\b|\b(?:rgb|hsl)a?\(|[: ](?:white|black|red|gr[ea]y|orange|blue|green)(?![-\w])"
_LITERAL_SIZE = r"font(?:-size)?:[^;}]*[\d.](?:px|r?em|pt)\b"
# Machado, Oliveira and Fernandes 2009, severity 1: linear RGB as it is seen without one kind of cone.
COLOUR_VISIONS = {
    "all cones": np.eye(3),
    "no red cones": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green cones": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "no blue cones": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def _lab(linear: np.ndarray) -> np.ndarray:
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear.clip(0, 1)
    x, y, z = np.cbrt(xyz / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_can_be_read_on_every_background(scheme: str) -> None:
    for text in ("text", "soft", "accent", "good", "bad", "error"):
        for background in ("back", "card"):
            assert contrast(token(text, scheme), token(background, scheme)) >= 4.5, (text, background)
    for name in ("accent", "active", "alarm"):
        assert contrast(token(f"on-{name}", scheme), token(name, scheme)) >= 4.5, name


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_a_figure_draws_stands_out_from_its_surface(scheme: str) -> None:
    """Fan, outlines, marks of decisions and misses, each 3 : 1 (WCAG 2.2, 1.4.11)."""
    surface = token("card", scheme)
    inner = max(opacity for *_, opacity in BANDS)
    drawn = {
        "edge of the fan": FAN,
        "50 % band": over(FAN, inner, surface),
        "miss": OUTSIDE,
        "candle up": RISING,
        "candle down": FALLING,
        "line at the horizon": token("horizon", scheme),
        "close inside its band": token("text", scheme),
        "close outside its band": token("bad", scheme),
        **dict(zip(("first outline", "second outline", "third outline", "fourth outline"), OUTLINES, strict=True)),
        **{name: colour for name, (_, colour) in MARKS.items() if colour.startswith("#")},
    }
    assert {name: found for name, colour in drawn.items() if (found := contrast(colour, surface)) < 3} == {}
    shades = [contrast(over(FAN, opacity, surface), surface) for *_, opacity in BANDS]
    assert shades == sorted(shades, reverse=True)
    assert min(one / other for one, other in pairwise(shades)) > 1.25, "the bands can be told apart"


def test_python_draws_with_the_colours_of_the_tokens() -> None:
    alike = {
        "rising": RISING,
        "falling": FALLING,
        "fan": FAN,
        "outside": OUTSIDE,
        "outline-one": OUTLINES[0],
        "outline-two": OUTLINES[1],
        "figure-text": OUTLINES[2],
        "outline-four": OUTLINES[3],
        "neutral": colours.NEUTRAL,
    }
    assert alike == {name: token(name, scheme) for name in alike for scheme in SCHEMES}
    assert token("horizon", "light") == colours.HORIZON
    assert token("figure-text", "light") == colours.FIGURE_TEXT
    shades = colours.DARK_SHADES
    dark = {"text": shades[0], "soft": shades[2], "line": shades[4], "card": shades[7], "back": shades[8]}
    assert dark == {name: token(name, "dark") for name in dark}
    assert (dark["text"], dark["soft"], dark["back"]) == (colours.TEXT, colours.SOFT, colours.BACK)


def test_no_other_file_names_a_colour_or_a_size_of_text() -> None:
    found = []
    for path in sorted(_DASHBOARD.rglob("*.css")):
        if path.name == "tokens.css":
            continue
        text = path.read_text()
        # Plotly's elements have no class: they are selected by the colour that Python gave them
        selected = re.findall(r'\[style\*="(rgb[^"]+)"\]', text)
        assert set(selected) <= {rgb(colours.FIGURE_TEXT), rgb(colours.HORIZON)}, path
        text = re.sub(r"/\*.*?\*/|\[style[^]]*\]", "", text, flags=re.S)
        rules = re.findall(r"\{([^{}]*)\}", text)
        for rule in rules:
            found += [
                f"{path.name}: {each}" for each in re.findall(_LITERAL_COLOUR, rule) + re.findall(_LITERAL_SIZE, rule)
            ]
    for path in sorted(_DASHBOARD.rglob("*.py")):
        if path.name != "colours.py":
            found += [f"{path.name}: {each}" for each in re.findall(r"[\"']#[0-9a-fA-F]{6}\b", path.read_text())]
    for path in sorted((_DASHBOARD / "templates").rglob("*.html")):
        found += [f"{path.name}: {each}" for each in re.findall(r"style=|<style", path.read_text())]
    assert found == []


@pytest.mark.parametrize("vision", COLOUR_VISIONS)
@pytest.mark.parametrize(
    ("one", "other"),
    [
        *((token("good", scheme), token("bad", scheme)) for scheme in SCHEMES),
        *((token("text", scheme), token("bad", scheme)) for scheme in SCHEMES),
        (RISING, FALLING),
        (FAN, OUTSIDE),
        (OUTLINES[0], OUTLINES[1]),
    ],
    ids=["light", "dark", "hit and miss, light", "hit and miss, dark", "candles", "fan and miss", "outlines"],
)
def test_good_and_bad_differ_for_every_kind_of_colour_vision(vision: str, one: str, other: str) -> None:
    seen = [_lab(np.array(COLOUR_VISIONS[vision]) @ linear(colour)) for colour in (one, other)]
    assert np.linalg.norm(seen[0] - seen[1]) > 40  # CIE76; 2.3 is just noticeable
