"""Write the HTTP reference: Swagger UI over the API's own OpenAPI document, without a file from another host."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import fastapi_offline
from fastapi.openapi.docs import get_swagger_ui_html

from make_us_rich.accounts import Accounts
from make_us_rich.core.settings import Settings
from make_us_rich.database.pool import Database
from serve_app.api.app import make_app
from serve_app.gateway.replica_client import ServeReplicaClient

_ASSETS = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png")


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
