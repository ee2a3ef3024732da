"""Fixtures and hooks of the tests with a browser, which the conftest files of their folders import."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from make_us_rich.core.interval import HOUR_MS
from tests.support.browser import ARTIFACTS
from tests.support.folders import traversable_folder

expect.set_options(timeout=20_000)  # a shared machine may be slow
_NEWS_AFTER_CLOSE_MS = 60_000  # within which services and pages have the new candle, on a busy machine too
# Without the parts of a desktop browser it takes a third of the CPU. None: the one that Playwright has installed.
_CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
_QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run")


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Start one Chromium for all tests of the folder; each test has a context of its own.

    Not for the session: while Playwright runs, no other test could call `asyncio.run`.
    """
    ARTIFACTS.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=_CHROMIUM, args=list(_QUIET))
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with _new_page(browser) as opened:
        yield opened


@contextmanager
def _new_page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    opened = context.new_page()
    yield opened
    # a request that a route still holds would fail with the page, and its error would reach the next test
    opened.unroute_all(behavior="ignoreErrors")
    context.close()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with traversable_folder() as made:
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """Run a test again that failed while a candle closed: what it had read of a forecast changed under it.

    It begins again with a page of its own, after the close, and has to pass then.
    """
    began_ms = time.time_ns() // 1_000_000
    try:
        return (yield)
    except Exception:
        if not _candle_closed_since(began_ms):
            raise
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    if "page" not in arguments:
        pyfuncitem.obj(**arguments)
    else:
        with _new_page(arguments["page"].context.browser) as again:
            pyfuncitem.obj(**arguments | {"page": again})


def _candle_closed_since(began_ms: int) -> bool:
    """True if the news of an hour's close may have arrived after `began_ms`."""
    now_ms = time.time_ns() // 1_000_000
    return (began_ms - _NEWS_AFTER_CLOSE_MS) // HOUR_MS != now_ms // HOUR_MS
