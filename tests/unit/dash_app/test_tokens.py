"""The colours of all pages: their contrast (WCAG 2.2) and whether colour-blind readers can tell them apart."""

from __future__ import annotations

import numpy as np
import pytest

from dash_app.components.figures import FALLING, RISING
from tests.support.colours import SCHEMES, contrast, linear, token

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
    assert contrast(token("on-accent", scheme), token("accent", scheme)) >= 4.5


@pytest.mark.parametrize("vision", COLOUR_VISIONS)
@pytest.mark.parametrize(
    ("one", "other"),
    [*((token("good", scheme), token("bad", scheme)) for scheme in SCHEMES), (RISING, FALLING)],
    ids=["light", "dark", "candles"],
)
def test_good_and_bad_differ_for_every_kind_of_colour_vision(vision: str, one: str, other: str) -> None:
    seen = [_lab(np.array(COLOUR_VISIONS[vision]) @ linear(colour)) for colour in (one, other)]
    assert np.linalg.norm(seen[0] - seen[1]) > 40  # CIE76; 2.3 is just noticeable
