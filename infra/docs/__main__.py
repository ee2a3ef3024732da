"""Renew the tables in settings.md and sizing.md of docs/reference, and write the HTTP and CLI references."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from infra.docs.http_api import write_http_reference
from infra.docs.settings_table import settings_table
from infra.docs.sizing import sizing_table

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"


def main() -> None:
    for page, content in generated_pages().items():
        page.write_text(content)
    write_http_reference(REFERENCE / "http")
    (REFERENCE / "cli.md").write_text(_cli_page())


def generated_pages() -> dict[Path, str]:
    """Return the committed pages that hold generated tables, with their tables renewed."""
    settings, sizing = REFERENCE / "settings.md", REFERENCE / "sizing.md"
    hourly = _replace_table(sizing.read_text(), "trained hourly", sizing_table(24))
    return {
        settings: _replace_table(settings.read_text(), "settings", settings_table()),
        sizing: _replace_table(hourly, "trained daily", sizing_table(1)),
    }


def _replace_table(page: str, name: str, table: str) -> str:
    """Replace what stands between two comments. Raises ValueError when the page has no place of that name."""
    begin, end = f"<!-- generated: {name} -->", "<!-- end -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the page has no {begin} … {end}")
    return f"{before}{begin}\n\n{table}\n\n{end}{after}"


def _cli_page() -> str:
    command = [sys.executable, "-m", "typer", "make_us_rich.cli", "utils", "docs", "--name", "mkrich"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
