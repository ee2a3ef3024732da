"""`python -m serve_app.keep`: deploys when Ray has a new head, which has no applications, and every five minutes.

The periodic deployment also applies pairs that were added to the table by hand, and replaces KubeRay's configuration.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx
import psycopg2

from make_us_rich.core.errors import MakeUsRichError, ServingError
from make_us_rich.core.responses import bearer, read_json
from make_us_rich.core.settings import Settings, get_settings
from make_us_rich.pipeline.deployment import apply
from make_us_rich.registry import shipped

_POLL_S = 1.0
_EVERY_S = 300.0
_RETRY_AFTER_S = 5.0
_TIMEOUT_S = 5.0


class Keeper:
    """Decides when to deploy."""

    def __init__(self, settings: Settings, deploy: Callable[[Settings], str]) -> None:
        self._settings = settings
        self._deploy = deploy
        headers = bearer(settings.ray_token.get_secret_value())
        self._ray = httpx.Client(base_url=settings.ray_url, headers=headers, timeout=_TIMEOUT_S)  # one for all polls
        self._session = ""
        self._next_at = 0.0

    def step(self) -> str:
        """Look at Ray once, and deploy if it is time. Returns what happened; empty when nothing did."""
        session = self._session_now()
        if not session or (session == self._session and time.monotonic() < self._next_at):
            return ""
        self._session, self._next_at = session, time.monotonic() + _RETRY_AFTER_S
        try:
            deployed = self._deploy(self._settings)
        except (MakeUsRichError, psycopg2.Error) as error:
            return f"not deployed: {str(error).strip()}"
        self._next_at = time.monotonic() + _EVERY_S
        return f"deployed to {session}: {deployed}"

    def _session_now(self) -> str:
        """Return the name of Ray's session, another one for each head without a Redis; empty while Ray is away."""
        try:
            answer = self._ray.get("/api/version").raise_for_status()
            return read_json(answer, lambda body: str(body["session_name"]), ServingError)
        except (httpx.HTTPError, ServingError):
            return ""


def _deploy(settings: Settings) -> str:
    registered = [f"{name} of the package: {each.reason}" for name, each in shipped.register(settings).items()]
    return "; ".join([*registered, str(apply(settings, wait_for=()))])


def main() -> None:
    settings = get_settings()
    keeper, printed = Keeper(settings, _deploy), ""
    while True:
        line = keeper.step()
        if line and line != printed:  # every five minutes it is usually the same
            printed = line
            print(line, flush=True)
        time.sleep(_POLL_S)


if __name__ == "__main__":
    main()
