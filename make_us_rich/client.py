"""A small client of the HTTP API.

with Client("http://127.0.0.1:28000", token) as api:
    forecast = api.forecast("btc_usdt")
    print(forecast.quantiles["q50"], forecast.model.skill_vs_naive)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from make_us_rich.core.errors import MakeUsRichError
from make_us_rich.core.responses import read_json
from make_us_rich.market.candles import Candles, from_klines

_TIMEOUT_S = 5.0
_UPDATE_TIMEOUT_S = 35.0  # the service answers, or refuses, within 30
_TRIES = 3
_PAUSE_S = 0.3

T = TypeVar("T")


class ServiceUnavailable(MakeUsRichError):
    """The API cannot be reached, or cannot answer now (503): worth another try later."""


class ServiceRefused(MakeUsRichError):
    """The API refused: `status` and `field` say what to change."""

    def __init__(self, message: str, *, status: int, field: str | None) -> None:
        super().__init__(message)
        self.status = status
        self.field = field


@dataclass(frozen=True)
class Model:
    name: str
    version: int
    as_of_ms: int
    architecture: str
    skill_vs_naive: float | None  # fraction of pinball loss saved against the random walk
    skill_margin: float | None  # the skill's 95 % interval reaches so far to either side
    coverage_80: float | None  # share of held-out closes inside q10..q90
    age_hours: float


@dataclass(frozen=True)
class Flags:
    stale: bool
    simulated: bool
    expired: bool
    foundation: bool  # by the model of all pairs: this one has none of its own yet


@dataclass(frozen=True)
class Forecast:
    """Quantiles of the close at `target_close_ms`, in the quote currency, by name: q05 to q95."""

    pair: str
    interval: str
    market: str
    as_of_ms: int
    last_close: float
    target_open_ms: int
    target_close_ms: int
    quantiles: Mapping[str, float]
    model: Model
    flags: Flags


@dataclass(frozen=True)
class PastForecast:
    """`close` is the price that came; None before it came, or when it is forgotten."""

    target_open_ms: int
    target_close_ms: int
    model_version: int
    last_close: float
    quantiles: Mapping[str, float]
    close: float | None
    inside_80: bool | None


class Client:
    """Every method raises ServiceUnavailable or ServiceRefused."""

    def __init__(self, api_url: str, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=api_url, headers=headers, timeout=_TIMEOUT_S)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def pairs(self) -> list[str]:
        """Those that are served now."""
        return self._get("/v1/pairs", lambda body: [item["pair"] for item in body["pairs"]])

    def forecast(self, pair: str, model: str = "champion") -> Forecast:
        """By the champion, or beside it by `previous`, `foundation` or `naive`."""
        return self._get(f"/v1/forecasts/{_segment(pair)}?model={quote(model, safe='')}", _forecast)

    def forecasts(self) -> tuple[list[Forecast], dict[str, str]]:
        """Of all pairs that are served, in one call; and why the others cannot be answered now."""
        return self._get(
            "/v1/forecasts",
            lambda body: (
                [_forecast(item) for item in body["forecasts"]],
                {item["pair"]: item["detail"] for item in body["missing"]},
            ),
        )

    def history(self, pair: str, limit: int) -> list[PastForecast]:
        """Newest first."""
        names = PastForecast.__dataclass_fields__
        return self._get(
            f"/v1/forecasts/{_segment(pair)}/history?limit={limit}",
            lambda body: [PastForecast(**{name: item[name] for name in names}) for item in body["forecasts"]],
        )

    def candles(self, pair: str, limit: int) -> Candles:
        """The newest closed candles, oldest first."""
        names = ("open_time_ms", "open", "high", "low", "close", "volume")
        return self._get(
            f"/v1/candles/{_segment(pair)}?limit={limit}",
            lambda body: from_klines(list(zip(*(body[name] for name in names), strict=True))),
        )

    def usage(self) -> dict[str, int]:
        """limit, used, remaining, resets_at_ms of this month."""
        names = ("limit", "used", "remaining", "resets_at_ms")
        return self._get("/v1/usage", lambda body: {name: int(body[name]) for name in names})

    def update_models(self, wait_s: float = 20.0) -> None:
        """Let the service swap to the champions of this moment, and wait until it did; needs an admin's token.

        Raises ServiceRefused when a replica refuses its new model, ServiceUnavailable when it takes longer.
        """
        try:
            answer = self._http.put("/update_models", timeout=_UPDATE_TIMEOUT_S)
        except httpx.HTTPError:
            raise ServiceUnavailable("the forecast service cannot be reached") from None
        if answer.is_error:
            detail, field = _problem(answer)
            raise ServiceRefused(detail, status=answer.status_code, field=field)
        wanted = read_json(answer, lambda body: dict(body["applications"]), ServiceUnavailable)
        deadline = time.monotonic() + wait_s
        while waiting := self._not_serving(wanted):
            if time.monotonic() > deadline:
                raise ServiceUnavailable(f"it is told, and takes longer than {wait_s:.0f} s: {waiting}")
            time.sleep(_PAUSE_S)

    def _not_serving(self, wanted: Mapping[str, int]) -> str:
        """What /readyz says of the first application that does not serve this version yet."""
        try:
            answer = self._http.get("/readyz", timeout=_UPDATE_TIMEOUT_S)
            states = read_json(answer, lambda body: dict(body["pairs"]), ServiceUnavailable)
        except (httpx.HTTPError, ServiceUnavailable):
            return "/readyz does not answer"
        for name, version in wanted.items():
            state = states.get(name)
            if state is None:
                return f"{name} is not known yet"
            due = (state["wanted"] or {}).get("version") == version
            if due and state["refused"]:
                raise ServiceRefused(f"{name} refuses version {version}: {state['refused']}", status=200, field=None)
            if not state["asleep"] and not (due and state["serves"] == state["wanted"]):
                return f"{name} does not serve version {version} yet: {state['reason']}"
        return ""

    def _get(self, path: str, read: Callable[[Any], T]) -> T:
        """Reading is safe to repeat: a moment's failure is tried again."""
        for attempt in range(1, _TRIES + 1):
            try:
                answer = self._http.get(path)
            except httpx.TimeoutException:
                raise ServiceUnavailable(f"the forecast service took more than {_TIMEOUT_S:.0f} s") from None
            except httpx.HTTPError:
                failure = ServiceUnavailable("the forecast service cannot be reached")
            else:
                if answer.is_success:
                    return read_json(answer, read, ServiceUnavailable)
                detail, field = _problem(answer)
                if answer.status_code < 500:
                    raise ServiceRefused(detail, status=answer.status_code, field=field)
                failure = ServiceUnavailable(detail)
            if attempt < _TRIES:
                time.sleep(_PAUSE_S * attempt)
        raise failure


def _segment(text: str) -> str:
    """As one segment of a path, whatever it holds; `..` would be one level up."""
    return quote(text, safe="").replace(".", "%2E")


def _forecast(body: Mapping[str, Any]) -> Forecast:
    """What a newer service tells beyond this is passed over."""
    named = {
        **body,
        "model": Model(**{name: body["model"][name] for name in Model.__dataclass_fields__}),
        "flags": Flags(**{name: body["flags"][name] for name in Flags.__dataclass_fields__}),
    }
    return Forecast(**{name: named[name] for name in Forecast.__dataclass_fields__})


def _problem(answer: httpx.Response) -> tuple[str, str | None]:
    try:
        body = answer.json()
        return str(body["detail"]), body.get("field")
    except (ValueError, KeyError, TypeError):
        return f"the forecast service answered {answer.status_code}", None
