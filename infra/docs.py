"""Generate the parts of the documentation that repeat facts of the code: `python -m infra.docs`, a step of `make docs`.

Renews the table in docs/reference/settings.md and the figures of the backtest in other pages, and writes the HTTP and
CLI references. It may import any package but benchmarks, the only one that imports infra.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import fastapi_offline
from fastapi.openapi.docs import get_swagger_ui_html
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from infra.forecast_pages import forecast_pages, stored_result
from infra.markdown import replace_generated
from make_us_rich.accounts import Accounts
from make_us_rich.core.settings import Settings
from make_us_rich.database.pool import Database
from serve_app.api.app import make_app
from serve_app.gateway.replica_client import ServeReplicaClient

REFERENCE = Path(__file__).resolve().parents[1] / "docs" / "reference"
_ASSETS = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png")


def main() -> None:
    for page, content in generated_pages().items():
        page.write_text(content)
    write_http_reference(REFERENCE / "http")
    (REFERENCE / "cli.md").write_text(_cli_page())


def generated_pages() -> dict[Path, str]:
    """Return the committed pages that hold generated tables, with their tables renewed."""
    settings = REFERENCE / "settings.md"
    renewed = replace_generated(settings.read_text(), "settings", settings_table())
    return forecast_pages(stored_result()) | {settings: renewed}


def settings_table() -> str:
    """Return a markdown table. Raises ValueError for a setting without a description."""
    rows = [_row(name, field) for name, field in Settings.model_fields.items()]
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows])


def _row(name: str, field: FieldInfo) -> str:
    if not field.description:
        raise ValueError(f"Settings.{name} has no description: say what it is for")
    return f"| `MUR_{name.upper()}` | {_default(field.default)} | {field.description} |"


def _default(value: object) -> str:
    if isinstance(value, SecretStr):
        return "*for development*" if value.get_secret_value() else ""
    if isinstance(value, tuple):
        value = ",".join(value)
    return f"`{value}`" if value != "" else ""


def openapi() -> dict[str, Any]:
    """Return the API's OpenAPI document. Opens no connection: the application connects with its first request."""
    settings = Settings()
    accounts = Accounts(Database.from_settings(settings))
    document: dict[str, Any] = make_app(settings, ServeReplicaClient(), accounts).openapi()
    return document


def write_http_reference(folder: Path) -> None:
    """Write the page, the document and Swagger UI's files. The page reads only: it sends no request to an API."""
    folder.mkdir(exist_ok=True)
    (folder / "openapi.json").write_text(json.dumps(openapi(), indent=1))
    for name in _ASSETS:
        shutil.copy(Path(fastapi_offline.__file__).parent / "static" / name, folder)
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title="Make Us Rich: HTTP reference",
        swagger_js_url=_ASSETS[0],
        swagger_css_url=_ASSETS[1],
        swagger_favicon_url=_ASSETS[2],
        swagger_ui_parameters={"supportedSubmitMethods": [], "validatorUrl": None},
    )
    # A file has no header that names its encoding, as an HTTP answer of FastAPI has.
    html = bytes(page.body).decode().replace("<head>", '<head>\n    <meta charset="utf-8">')
    (folder / "index.html").write_text(html)


def _cli_page() -> str:
    command = [sys.executable, "-m", "typer", "make_us_rich.cli", "utils", "docs", "--name", "mkrich"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
