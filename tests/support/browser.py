"""Helpers of the browser tests: the folder of screenshots, registration and log-in, the width of a page."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from tests.support.processes import PROJECT_ROOT

ARTIFACTS = PROJECT_ROOT / "tests" / "artifacts"
PASSWORD = "correct horse battery"
PHONE = {"width": 390, "height": 844}


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


def horizontal_overflow_px(page: Page) -> int:
    """Return by how many pixels the page is wider than the window."""
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


def axe_violations(page: Page) -> list[str]:
    """Return everything that axe finds about the accessibility of the page."""
    return [
        f"{violation['id']}: {violation['help']}: {[node['html'][:160] for node in violation['nodes'][:3]]}"
        for violation in Axe().run(page).response["violations"]
    ]
