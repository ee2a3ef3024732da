"""Parts of the documentation's pages that are generated: they stand between two comments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def replace_generated(page: str, name: str, content: str) -> str:
    """Replace what stands between two comments. Raises ValueError when the page has no place of that name."""
    begin, end = f"<!-- generated: {name} -->", "<!-- end -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the page has no {begin} … {end}")
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table as Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))
