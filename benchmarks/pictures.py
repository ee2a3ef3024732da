"""Take the README's pictures of the stack that runs here: `make demo`, then `make pictures`.

Every page in the light colour scheme; the forecasts in the dark one and on a phone too. For another installation:

    .venv/bin/python -m benchmarks.pictures forecasts overview --url URL --name NAME --password PASSWORD
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, Playwright, ViewportSize, expect, sync_playwright

from make_us_rich.embedded import lifecycle
from make_us_rich.embedded.environment import ADMIN
from make_us_rich.embedded.stack_config import saved_stack_config

_FOLDER = Path(__file__).resolve().parents[1] / "docs" / "images"
ColorScheme = Literal["light", "dark"]
_WIDE: ViewportSize = {"width": 1280, "height": 900}
_PHONE: ViewportSize = {"width": 390, "height": 844}
# name, path, selector that is visible once the page is complete, colour scheme, window
_PICTURES: tuple[tuple[str, str, str, ColorScheme, ViewportSize], ...] = (
    ("forecasts", "/", "#chart .annotation-text", "light", _WIDE),
    ("forecasts-dark", "/", "#chart .annotation-text", "dark", _WIDE),
    ("forecasts-phone", "/", "#chart .annotation-text", "light", _PHONE),
    ("overview", "/overview", "#overview-table tbody a", "light", _WIDE),
    ("models", "/models", "#model-detail .legendtext", "light", _WIDE),
    ("api", "/api-tokens", "#curl-example", "light", _WIDE),
    ("admin", "/admin", "#admin-users [role=gridcell]", "light", _WIDE),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="*", help="all of them when none is named")
    parser.add_argument("--url", help="of a dashboard; by default that of the stack that runs here")
    parser.add_argument("--name", default=ADMIN)
    parser.add_argument("--password")
    asked = parser.parse_args()
    url, password = (asked.url, asked.password) if asked.url else _stack_here()
    with sync_playwright() as playwright:
        browser = open_browser(playwright)
        for name, path, ready, scheme, window in _PICTURES:
            if asked.pictures and name not in asked.pictures:
                continue
            page = _page(browser, scheme, window)
            log_in(page, f"{url}/login?next={path}", asked.name, password)
            expect(page.locator(ready).first).to_be_visible(timeout=60_000)
            page.wait_for_load_state("networkidle")
            page.screenshot(path=_FOLDER / f"{name}.png", full_page=True)
            print(_FOLDER / f"{name}.png")
        browser.close()


def open_browser(playwright: Playwright) -> Browser:
    """Start the machine's Chromium, or Playwright's own where there is none on PATH."""
    chromium = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    return playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])


def log_in(page: Page, url: str, name: str, password: str) -> None:
    """Fill in and send the log-in page at `url`."""
    page.goto(url)
    page.fill("input[name=name]", name)
    page.fill("input[name=password]", password)
    page.click("button[type=submit]")


def _stack_here() -> tuple[str, str]:
    config = saved_stack_config()
    if config is None:
        raise SystemExit("no stack was started here: `make demo` first, and leave it running")
    return config.url("dash"), lifecycle.open_stack(config).secrets.admin_password


def _page(browser: Browser, scheme: ColorScheme, window: ViewportSize) -> Page:
    return browser.new_context(color_scheme=scheme, viewport=window, device_scale_factor=1.5).new_page()


if __name__ == "__main__":
    main()
