"""Code blocks of the documentation, so that tests can run what a reader would."""

from __future__ import annotations

import re

from tests.support.processes import PROJECT_ROOT


def code_blocks(page: str, language: str, heading: str = "") -> list[str]:
    """Return the fenced blocks of a page in one language; with `heading`, those below the heading that contains it."""
    text = (PROJECT_ROOT / page).read_text()
    if heading:
        sections = [section for section in re.split(r"^#+ ", text, flags=re.M) if heading in section.split("\n")[0]]
        assert len(sections) == 1, f"{page} has {len(sections)} headings with {heading!r}"
        text = sections[0]
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.S | re.M)
    assert blocks, f"{page} has no {language} block under {heading!r}"
    return blocks


def sizing_bytes(what: str) -> int:
    """Return the bytes that the table of constants in the sizing page gives for something."""
    page = (PROJECT_ROOT / "docs" / "reference" / "sizing.md").read_text()
    (found,) = re.findall(rf"^\| {re.escape(what)}[^|]*\| ([\d,]+) bytes", page, flags=re.M)
    return int(found.replace(",", ""))
