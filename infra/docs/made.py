"""Parts of a page that are made: what stands between two comments is replaced."""

from __future__ import annotations


def with_made(page: str, name: str, content: str) -> str:
    """Raises ValueError when the page has no place of that name."""
    begin, end = f"<!-- made: {name} -->", "<!-- end -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the page has no {begin} … {end}")
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"
