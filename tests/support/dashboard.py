"""The dashboard over HTTP, as a browser without scripts speaks to it."""

from __future__ import annotations

import re
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

_ADDRESS = "192.0.2.1"


class Visitor:
    """One browser: its cookies, its address."""

    def __init__(self, client: FlaskClient, address: str = _ADDRESS) -> None:
        self.client = client
        self._from = {"REMOTE_ADDR": address}

    def get(self, path: str, **rest: Any) -> TestResponse:
        return self.client.get(path, environ_base=self._from, **rest)

    def submit(self, path: str, **fields: str) -> TestResponse:
        """Fill in the form of a page and send it."""
        found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', self.get(path).text)
        data = fields | ({"csrf_token": found[1]} if found else {})
        return self.client.post(path, data=data, environ_base=self._from)

    def log_in(self, name: str, password: str, **more: str) -> TestResponse:
        return self.submit("/login", name=name, password=password, **more)

    def is_in(self) -> bool:
        return self.get("/").status_code == 200

    def call_back(self, body: dict[str, Any]) -> TestResponse:
        """What Dash's script sends when a component changes."""
        token = self.client.get_cookie("_csrf_token")
        headers = {"X-CSRFToken": token.value} if token else {}
        return self.client.post(
            "/_dash-update-component", json=body, headers=headers, environ_base=self._from
        )

    def cookies(self) -> dict[str, str]:
        names = ("session", "remember_token", "_csrf_token")
        found = {name: self.client.get_cookie(name) for name in names}
        return {name: cookie.value for name, cookie in found.items() if cookie}
