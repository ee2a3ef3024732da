"""The colours of the pages by light and dark scheme, and their contrast as WCAG 2.2 defines it."""

from __future__ import annotations

import re

import numpy as np

from tests.support.processes import PROJECT_ROOT

_TOKENS = dict(
    re.findall(
        r"--([a-z-]+): (?:light-dark\()?(#[^);]+)\)?;", (PROJECT_ROOT / "dash_app/assets/tokens.css").read_text()
    )
)
SCHEMES = ("light", "dark")


def linear(colour: str) -> np.ndarray:
    parts = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def token(name: str, scheme: str) -> str:
    light, _, dark = _TOKENS[name].partition(", ")
    return dark if dark and scheme == "dark" else light


def contrast(one: str, other: str) -> float:
    dark, light = sorted(float(linear(each) @ [0.2126, 0.7152, 0.0722]) for each in (one, other))
    return (light + 0.05) / (dark + 0.05)


def over(colour: str, opacity: float, surface: str) -> str:
    """Return what a colour that is not opaque looks like on a surface."""
    ends = [[int(each[start : start + 2], 16) for start in (1, 3, 5)] for each in (colour, surface)]
    return "#" + "".join(
        f"{round(opacity * top + (1 - opacity) * bottom):02x}" for top, bottom in zip(*ends, strict=True)
    )
