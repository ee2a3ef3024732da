"""A client of the dashboard that sends what a browser sends, without running scripts."""

from __future__ import annotations

import json
import re
from typing import Any

from dash import Dash
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

_ADDRESS = "192.0.2.1"


class DashboardClient:
    """One browser, with its cookies and its IP address."""

    def __init__(self, client: FlaskClient, address: str = _ADDRESS) -> None:
        self.client = client
        self._from = {"REMOTE_ADDR": address}

    def get(self, path: str, **rest: Any) -> TestResponse:
        return self.client.get(path, environ_base=self._from, **rest)

    def submit(self, path: str, **fields: str) -> TestResponse:
        """Send the form of a page to that page."""
        return self.post_form(path, path, **fields)

    def post_form(self, page: str, action: str, **fields: str) -> TestResponse:
        """Send a form of `page` to `action`, with the CSRF token that the page holds or sets as a cookie."""
        found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', self.get(page).text)
        cookie = self.client.get_cookie("_csrf_token")
        token = found[1] if found else cookie.value if cookie else ""
        return self.client.post(action, data=fields | {"csrf_token": token}, environ_base=self._from)

    def log_in(self, name: str, password: str, **more: str) -> TestResponse:
        return self.submit("/login", name=name, password=password, **more)

    def is_logged_in(self) -> bool:
        return self.get("/account").status_code == 200

    def send_callback(self, body: dict[str, Any]) -> TestResponse:
        """Send the request that Dash's script sends when a component changes."""
        return self.post_raw("/_dash-update-component", json.dumps(body).encode())

    def post_raw(self, path: str, body: bytes) -> TestResponse:
        """Send bytes with the content type of JSON and the CSRF header, as the page's script does."""
        token = self.client.get_cookie("_csrf_token")
        headers = {"X-CSRFToken": token.value} if token else {}
        return self.client.post(
            path, data=body, headers=headers, content_type="application/json", environ_base=self._from
        )

    def cookies(self) -> dict[str, str]:
        names = ("session", "remember_token", "_csrf_token")
        found = {name: self.client.get_cookie(name) for name in names}
        return {name: cookie.value for name, cookie in found.items() if cookie}


def outputs_of(key: str) -> list[dict[str, str]]:
    """Return the outputs that the key of a callback names."""
    names = key.strip(".").split("...") if key.startswith("..") else [key]
    # a clientside callback may have no output
    pairs = [name.rsplit(".", 1) for name in names if "." in name]
    return [{"id": name, "property": field} for name, field in pairs]


def callback_body(app: Dash, key: str, values: dict[str, Any], clicked: str = "") -> dict[str, Any]:
    """Return the request body of a callback. `values`: by id and property, such as "admin-role.value"."""
    callback, outputs = app.callback_map[key], outputs_of(key)
    filled = [
        [{**part, "value": values.get(f"{part['id']}.{part['property']}")} for part in callback[kind]]
        for kind in ("inputs", "state")
    ]
    return {
        "output": key,
        "outputs": outputs if key.startswith("..") else outputs[0],
        "inputs": filled[0],
        "state": filled[1],
        "changedPropIds": [clicked] if clicked else [],
    }


def click(app: Dash, client: DashboardClient, button: str, **values: Any) -> str:
    """Click a button and return the answer as text. `values`: as of `callback_body`."""
    (key,) = [
        key
        for key, callback in app.callback_map.items()
        if "callback" in callback and any(part["id"] == button for part in callback["inputs"])
    ]
    clicked = f"{button}.n_clicks"
    answer = client.send_callback(callback_body(app, key, values | {clicked: 1}, clicked))
    assert answer.status_code == 200
    return str(answer.get_json())
