from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.browser import ARTIFACTS
from tests.support.folders import traversable_folder

expect.set_options(timeout=20_000)  # a shared machine may be slow
_LONGEST_TEST_S = 45.0
_FRESH_AFTER_S = 10.0  # after the close
# Without the parts of a desktop browser it takes a third of the CPU. None: the one that Playwright has installed.
_CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
_QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    ARTIFACTS.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=_CHROMIUM, args=list(_QUIET))
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    opened = context.new_page()
    yield opened
    # a request that a route still holds would fail with the page, and its error would reach the next test
    opened.unroute_all(behavior="ignoreErrors")
    context.close()


@pytest.fixture(scope="module", autouse=True)
def no_close_within_the_start() -> None:
    """Keep a close out of the start of a module's servers."""
    _wait_for_a_near_close()


@pytest.fixture(autouse=True)
def no_close_within_the_test() -> None:
    """Keep a close out of a test: what it read of a forecast would change while it runs."""
    _wait_for_a_near_close()


def _wait_for_a_near_close() -> None:
    left_s = 3600 - time.time() % 3600
    if left_s < _LONGEST_TEST_S:
        time.sleep(left_s + _FRESH_AFTER_S)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with traversable_folder() as made:
        yield made
