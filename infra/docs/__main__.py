"""Write the settings' table into docs/settings.md, and the references of the API and the CLI into docs/reference."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from infra.docs.http_api import http_api_page
from infra.docs.settings_table import with_settings_table

DOCS = Path(__file__).resolve().parents[2] / "docs"


def main() -> None:
    page = DOCS / "settings.md"
    page.write_text(with_settings_table(page.read_text()))
    (DOCS / "reference").mkdir(exist_ok=True)
    (DOCS / "reference" / "http.md").write_text(http_api_page())
    (DOCS / "reference" / "cli.md").write_text(_cli_page())


def _cli_page() -> str:
    command = [sys.executable, "-m", "typer", "make_us_rich.cli", "utils", "docs", "--name", "mkrich"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
