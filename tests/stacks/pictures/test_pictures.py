"""The pages look as in their reference pictures, in the windows that tests/browser/test_pictures.py leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.support.page_pictures import PAGES, SECOND_TIER, PicturedPages, pictured_pages

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def pages(browser: Browser, folder: Path) -> Iterator[PicturedPages]:
    with pictured_pages(browser, folder) as made:
        yield made


@pytest.mark.parametrize("name", PAGES)
def test_a_page_looks_as_its_pictures(pages: PicturedPages, name: str) -> None:
    pages.check(name, SECOND_TIER)
