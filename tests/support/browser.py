"""Helpers of the browser tests: the folder of screenshots, registration and log-in, the width of a page."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from tests.support.processes import PROJECT_ROOT

ARTIFACTS = PROJECT_ROOT / "tests" / "artifacts"
PASSWORD = "correct horse battery"
PHONE = {"width": 390, "height": 844}
_SETTLED_S = 5.0  # after which nothing fades in or changes its colour any more


def register(page: Page, url: str, name: str) -> None:
    page.goto(f"{url}/register")
    page.fill("input[name=name]", name)
    page.fill("input[name=password]", PASSWORD)
    page.click("button[type=submit]")


def log_in(page: Page, url: str, name: str, path: str = "/") -> None:
    page.goto(f"{url}/login?next={path}")
    page.fill("input[name=name]", name)
    page.fill("input[name=password]", PASSWORD)
    page.click("button[type=submit]")


def fire_timer(page: Page, name: str) -> None:
    """Let a timer of the page fire now that would within a minute."""
    timer = page.evaluate("(name) => window.dash_component_api.getLayout(name).props", name)
    assert timer["interval"] <= 60_000
    assert not timer.get("disabled")
    fired = {"n_intervals": timer.get("n_intervals", 0) + 1}
    page.evaluate("([name, fired]) => window.dash_clientside.set_props(name, fired)", [name, fired])


def horizontal_overflow_px(page: Page) -> int:
    """Return by how many pixels the page is wider than the window."""
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


def axe_violations(page: Page) -> list[str]:
    """Return everything that axe finds about the accessibility of the page: all in light, the contrasts in dark too."""
    page.emulate_media(color_scheme="light")
    found = _settled_violations(page, {"resultTypes": ["violations"]})
    page.emulate_media(color_scheme="dark")
    found += _settled_violations(page, {"resultTypes": ["violations"], "runOnly": ["color-contrast"]})
    page.emulate_media(color_scheme="light")
    return found


def _settled_violations(page: Page, options: Mapping[str, Any]) -> list[str]:
    """Return what axe still finds when the page has settled: a dialog that fades in has too little contrast."""
    deadline = time.monotonic() + _SETTLED_S
    while True:
        found = [
            f"{violation['id']}: {violation['help']}: {[node['html'][:160] for node in violation['nodes'][:3]]}"
            for violation in Axe().run(page, options=dict(options)).response["violations"]
        ]
        if not found or time.monotonic() > deadline:
            return found
        page.wait_for_timeout(200)
