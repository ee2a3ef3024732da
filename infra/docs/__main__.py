"""Renew the tables of docs/settings.md and docs/sizing.md, and the references of the API and the CLI."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from infra.docs.http_api import http_api_page
from infra.docs.made import with_made
from infra.docs.settings_table import settings_table
from infra.docs.sizing import sizing_table

DOCS = Path(__file__).resolve().parents[2] / "docs"


def main() -> None:
    for page, content in pages().items():
        page.write_text(content)
    (DOCS / "reference").mkdir(exist_ok=True)
    (DOCS / "reference" / "http.md").write_text(http_api_page())
    (DOCS / "reference" / "cli.md").write_text(_cli_page())


def pages() -> dict[Path, str]:
    """The pages that are kept in the repository, as they should be."""
    settings, sizing = DOCS / "settings.md", DOCS / "sizing.md"
    hourly = with_made(sizing.read_text(), "trained hourly", sizing_table(24))
    return {
        settings: with_made(settings.read_text(), "settings", settings_table()),
        sizing: with_made(hourly, "trained daily", sizing_table(1)),
    }


def _cli_page() -> str:
    command = [sys.executable, "-m", "typer", "make_us_rich.cli", "utils", "docs", "--name", "mkrich"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
