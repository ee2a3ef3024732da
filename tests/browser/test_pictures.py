"""The pages look as in their reference pictures: see tests/support/pictures.py.

Here in a wide light window and a narrow dark one; tests/stacks/pictures has the other widths and schemes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.support.page_pictures import FIRST_TIER, PAGES, PicturedPages, pictured_pages
from tests.support.pictures import check_picture, renewing
from tests.support.processes import PROJECT_ROOT

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def pages(browser: Browser, folder: Path) -> Iterator[PicturedPages]:
    with pictured_pages(browser, folder) as made:
        yield made


@pytest.mark.parametrize("name", PAGES)
def test_a_page_looks_as_its_pictures(pages: PicturedPages, name: str) -> None:
    pages.check(name, FIRST_TIER)


@pytest.mark.skipif(renewing(), reason="the pictures are being renewed")
@pytest.mark.parametrize(
    "change", [":root { --accent: light-dark(#1864c0, #4dabf7) }", "main { margin-top: 4px !important }"]
)
def test_a_changed_colour_or_margin_is_reported_with_the_files(pages: PicturedPages, change: str) -> None:
    page = pages.visitors["stranger"].new_page()
    page.set_viewport_size({"width": 1440, "height": 900})
    page.emulate_media(color_scheme="light")
    page.goto(f"{pages.dashboard.url}/")
    assert check_picture(page, "landing-1440-light") is None
    page.add_style_tag(content=change)
    problem = check_picture(page, "landing-1440-light")
    page.close()
    assert problem is not None
    files = re.findall(r"(expected|actual|difference) (\S+\.png)", problem)
    assert [(name, (PROJECT_ROOT / path).is_file()) for name, path in files] == [
        ("expected", True),
        ("actual", True),
        ("difference", True),
    ]
