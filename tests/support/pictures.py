"""Screenshots of pages, compared with reference pictures.

A page is drawn at half scale, with what changes from run to run taken out: each number becomes 0, each month Jan, each
weekday Mon, and charts and sparklines are hidden, which other tests check. Layout, texts and colours remain.

Tolerance: a pixel differs when a channel is more than `CHANNEL_TOLERANCE` of 255 away, which the palette of the
references needs, and a picture differs when more than `MOST_PIXELS` pixels do. A margin that is 2 px larger changes the
picture's height. The colour of all thin lines, 24 of 255 darker, changes 17 to 46 pixels, because half scale mixes a
line with its surroundings.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps
from playwright.sync_api import Browser, BrowserContext, Page

from tests.support.browser import ARTIFACTS
from tests.support.processes import PROJECT_ROOT

REFERENCES = PROJECT_ROOT / "tests" / "browser" / "pictures"
RENEW = "MUR_RENEW_PICTURES"
CHANNEL_TOLERANCE = 10
MOST_PIXELS = 8
_COLOURS = 128
_HIGHEST = 2400  # of a picture, in CSS pixels: longer pages repeat their rows
_SETTLE_S = 20.0
_TILE, _GAP = (560, 480), 16  # of a strip, in pixels

_STEADY = """() => {
    const short = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec";
    const long = "January|February|March|April|June|July|August|September|October|November|December";
    const plain = (text) => text
        .replace(/[+\\u2212-]?\\d[\\d.,]*(?=\\D|$)/g, "0")
        .replace(new RegExp(`\\\\b(${short}|${long})\\\\b`, "g"), "Jan")
        .replace(/\\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun)\\b/g, "Mon")
        .replace(/(better|worse) beyond noise|no clear difference/g, "no verdict");  // depends on the hour
    const since = document.querySelector("#since p");  // whether the close was inside the band depends on the hour
    if (since) since.textContent = since.textContent.slice(0, 24);
    document.querySelectorAll("time[datetime]").forEach((time) => time.removeAttribute("datetime"));
    document.querySelectorAll("[data-age-hours]").forEach((age) => age.removeAttribute("data-age-hours"));
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const node = walker.currentNode;
        if (node.parentElement.closest("script, style, noscript")) continue;
        const text = plain(node.nodeValue);
        if (text !== node.nodeValue) node.nodeValue = text;
    }
    for (const input of document.querySelectorAll("input")) {
        if (/\\d/.test(input.value)) input.value = plain(input.value);
    }
    document.activeElement?.blur();
}"""
_STYLE = """
    *, *::before, *::after {
        animation: none !important; transition: none !important; caret-color: transparent !important;
    }
    .js-plotly-plot, svg[role=img], td svg, img { visibility: hidden !important; }
"""
_PROBE = """<body style="margin:8px;background:#fff"><p style="font:16px system-ui,sans-serif">Forecasts of the next 24
closes: 80 % <b>BTC / USDT</b></p><p style="font:13px monospace">mur_token 0123456789</p><input value="Name"></body>"""


def open_context(browser: Browser) -> BrowserContext:
    """Return a context whose pages are drawn at half scale, in UTC and English."""
    return browser.new_context(
        device_scale_factor=0.5,
        timezone_id="UTC",
        locale="en-GB",
        reduced_motion="reduce",
        bypass_csp=True,  # the public pages allow no style but their own
    )


def skip_unless_comparable(context: BrowserContext) -> None:
    """Skip the test on a machine whose fonts or browser draw a line of text otherwise than the references' machine."""
    page = context.new_page()
    page.set_viewport_size({"width": 400, "height": 160})
    page.set_content(_PROBE)
    taken = _pixels(page.screenshot())
    page.close()
    name = "probe"
    if renewing():
        _write(name, taken)
    elif _differing(_read(name), taken).sum() > MOST_PIXELS:
        version = context.browser.version if context.browser else ""
        pytest.skip(f"Chromium {version} and the fonts here draw text otherwise than where the pictures were taken")


def renewing() -> bool:
    return bool(os.environ.get(RENEW))


def check_picture(page: Page, name: str) -> str | None:
    """Compare the page with its reference, or renew the reference; returns what is wrong, with the files.

    A page may still be drawing, so it is taken until it equals the reference or stays the same for a while.
    """
    taken = _take(page)
    deadline, since = time.monotonic() + _SETTLE_S, time.monotonic()
    while time.monotonic() < deadline:
        if not renewing() and (REFERENCES / f"{name}.png").is_file() and _difference(name, taken) is None:
            return None
        page.wait_for_timeout(300)
        newer = _take(page)
        if newer.shape != taken.shape or (newer != taken).any():
            since = time.monotonic()
        taken = newer
        if time.monotonic() - since > 3:
            break
    if renewing():
        _write(name, taken)
        return None
    return _difference(name, taken, save=True)


def _take(page: Page) -> NDArray[np.uint8]:
    page.evaluate(_STEADY)
    return _pixels(page.screenshot(full_page=True, style=_STYLE, animations="disabled"))


def _pixels(png: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))[: _HIGHEST // 2]


def _difference(name: str, taken: NDArray[np.uint8], *, save: bool = False) -> str | None:
    path = REFERENCES / f"{name}.png"
    if not path.is_file():
        return f"{path} is missing: `make reference-pictures` takes it"
    expected = _read(name)
    if expected.shape == taken.shape:
        wrong = _differing(expected, taken)
        if (count := int(wrong.sum())) <= MOST_PIXELS:
            return None
        rows, columns = np.nonzero(wrong)
        box = f"x {2 * columns.min()} to {2 * columns.max()}, y {2 * rows.min()} to {2 * rows.max()} px of the page"
        problem = f"{count} pixels differ, {MOST_PIXELS} may; {box}"
    else:
        wrong = np.ones(taken.shape[:2], dtype=np.bool_)
        problem = f"it is {_size(taken)} px, not {_size(expected)}"
        height, width = (min(each) for each in zip(expected.shape[:2], taken.shape[:2], strict=True))
        wrong[:height, :width] = _differing(expected[:height, :width], taken[:height, :width])
    if not save:
        return problem
    folder = ARTIFACTS / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    actual, difference = folder / f"{name}-actual.png", folder / f"{name}-difference.png"
    Image.fromarray(taken).save(actual)
    shown = 128 + taken // 2
    shown[wrong] = (220, 0, 0)
    Image.fromarray(shown).save(difference)
    found = ", ".join(
        f"{what} {file.relative_to(PROJECT_ROOT)}"
        for what, file in (("expected", path), ("actual", actual), ("difference", difference))
    )
    return f"{name}: {problem}. See {found}"


def save_strip(shots: Sequence[Path], path: Path) -> None:
    """Put the upper parts of screenshots side by side, three to a row, each `_TILE` in size."""
    width, height = _TILE
    rows = -(-len(shots) // 3)
    strip = Image.new("RGB", (3 * (width + _GAP) - _GAP, rows * (height + _GAP) - _GAP), "white")
    for index, shot in enumerate(shots):
        with Image.open(shot) as opened:
            whole = opened.convert("RGB")
        scaled = whole.resize((width, whole.height * width // whole.width), Image.Resampling.LANCZOS)
        tile = ImageOps.expand(scaled.crop((0, 0, width - 2, min(height, scaled.height) - 2)), 1, "gray")
        strip.paste(tile, (index % 3 * (width + _GAP), index // 3 * (height + _GAP)))
    strip.save(path, quality=82, optimize=True)


def _size(picture: NDArray[np.uint8]) -> str:
    return f"{picture.shape[1]} x {picture.shape[0]}"


def _differing(expected: NDArray[np.uint8], taken: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which pixels differ, [height, width]."""
    apart = np.abs(expected.astype(np.int16) - taken.astype(np.int16)).max(axis=2)
    return np.asarray(apart > CHANNEL_TOLERANCE)


def _read(name: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(REFERENCES / f"{name}.png").convert("RGB"))


def _write(name: str, taken: NDArray[np.uint8]) -> None:
    """Save a reference with few colours, if that moves no pixel by more than the tolerance."""
    REFERENCES.mkdir(exist_ok=True)
    path = REFERENCES / f"{name}.png"
    whole = Image.fromarray(taken)
    whole.quantize(_COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(path, optimize=True)
    if _differing(_read(name), taken).any():
        whole.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(path, optimize=True)
    if _differing(_read(name), taken).any():
        whole.save(path, optimize=True)
