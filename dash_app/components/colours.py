"""The colours that Python draws with: the values of tokens in assets/tokens.css. A test compares both.

Plotly writes colours into the figure, so one value has to fit the light and the dark scheme.
"""

from __future__ import annotations

RISING, FALLING = "#3b82c4", "#d97706"  # blue and orange are distinct for every kind of colour vision
FAN, OUTSIDE = "#8465c8", "#c2255c"
HORIZON = "#4c2d8c"  # behind white text; dashboard.css lightens its lines in the dark scheme
FIGURE_TEXT, NEUTRAL = "#7d8590", "#808a96"
OUTLINES = ("#0c9c8a", "#b7791f", FIGURE_TEXT, "#5c940d")

BACK, TEXT, SOFT = "#0d1117", "#e6edf3", "#b1b8bf"
"""Of the shared pictures, which are dark."""
PICTURE_BANDS = ("#1e3a56", "#2a5d8f", "#3f86c9")  # 90, 80 and 50 %
# Mantine's greys of the dark scheme, from text to the deepest shade, around the tokens text, soft, line, card and back.
DARK_SHADES = (TEXT, "#c9d1d9", SOFT, "#8b949e", "#3d444d", "#30363d", "#1f252d", "#161b22", BACK, "#090c10")


def rgb(colour: str, opacity: float = 1.0) -> str:
    """Write a colour such as #7c5cbf as Plotly does: rgb(124, 92, 191), or rgba(124, 92, 191, 0.2)."""
    parts = ", ".join(str(int(colour[start : start + 2], 16)) for start in (1, 3, 5))
    return f"rgb({parts})" if opacity == 1 else f"rgba({parts}, {opacity})"
