"""A small client of the HTTP API.

with Client("http://127.0.0.1:28000", token) as api:
    forecast = api.forecast("btc_usdt")
    print(forecast.quantiles["q50"], forecast.model.skill_vs_naive)
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import httpx
from pydantic import TypeAdapter

from make_us_rich.core.errors import InputError, MakeUsRichError
from make_us_rich.core.pair import Pair, Series, foundation_name
from make_us_rich.core.responses import CONNECTIONS, UNEXPECTED, bearer, read_json
from make_us_rich.documents import (
    CandleColumns,
    Forecast,
    ModelCard,
    NamedVersion,
    PairState,
    PastForecast,
    Probability,
    Readiness,
    UpdatedModels,
    Usage,
)

if TYPE_CHECKING:
    from make_us_rich.market.candles import Candles

_TIMEOUT_S = 5.0
_UPDATE_TIMEOUT_S = 35.0  # the service answers, or refuses, within 30
_TRIES = 3
_PAUSE_S = 0.3

_FORECASTS = TypeAdapter(list[Forecast])
_PAST_FORECASTS = TypeAdapter(list[PastForecast])

T = TypeVar("T")


class ServiceUnavailable(MakeUsRichError):
    """The API cannot be reached, or cannot answer now (503): try again later."""


class ServiceRefused(MakeUsRichError):
    """The API refused the request: `status` and `field` say what to change."""

    def __init__(self, message: str, *, status: int, field: str | None) -> None:
        super().__init__(message)
        self.status = status
        self.field = field


class Client:
    """Every method raises ServiceUnavailable or ServiceRefused.

    `interval`: of the candles, such as "4h"; by default the first of the installation's intervals.
    """

    def __init__(self, api_url: str, token: str | None) -> None:
        """Raise InputError for an address or token that cannot be one. White space around either is left out."""
        address, sent = _checked_address(api_url), checked_token(token)
        # a service on this machine is not asked through the proxy of the environment, which would see the token
        direct = {f"all://{host}": None for host in ("localhost", "127.0.0.1", "[::1]")}
        self._http = httpx.Client(
            base_url=address, headers=bearer(sent), timeout=_TIMEOUT_S, limits=CONNECTIONS, mounts=direct
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def pairs(self, interval: str | None = None) -> list[Pair]:
        """Return the pairs that are served now, at any interval or at the given one."""
        return self._get(
            f"/v1/pairs{_query(interval=interval)}",
            lambda body: [Pair.parse(name) for name in dict.fromkeys(item["pair"] for item in body["pairs"])],
        )

    def forecast(
        self, pair: str, model: str = "champion", horizons: Collection[int] = (), interval: str | None = None
    ) -> Forecast:
        """Return the champion's forecast, or that of `previous`, `foundation`, `naive` or `ewma` to compare with.

        horizons: candles ahead, such as (1, 8, 24); by default all that the model has.
        """
        query = _query(model=model, horizons=_joined(horizons), interval=interval)
        return self._get(f"/v1/forecasts/{_segment(pair)}{query}", Forecast.model_validate)

    def forecasts(
        self, horizons: Collection[int] = (), interval: str | None = None
    ) -> tuple[list[Forecast], dict[str, str]]:
        """Return the forecasts of all served pairs, for one call; and by pair, why another has none now.

        horizons: candles ahead, of which each forecast has those that its model has; by default the next close alone.
        """
        return self._get(
            f"/v1/forecasts{_query(horizons=_joined(horizons), interval=interval)}",
            lambda body: (
                _FORECASTS.validate_python(body["forecasts"]),
                {item["pair"]: item["detail"] for item in body["missing"]},
            ),
        )

    def probability(
        self,
        pair: str,
        *,
        above: float | None = None,
        below: float | None = None,
        between: tuple[float, float] | None = None,
        horizon: int = 1,
        interval: str | None = None,
    ) -> Probability:
        """Return the probability that the close `horizon` candles ahead is above or below a price, or between two.

        Give exactly one of `above`, `below` and `between`, which has the lower price first. A forecast that you have
        answers without a call: see `HorizonForecast.probability_below`.
        """
        asked = {"above": above, "below": below, "between": between and _joined(between)}
        query = _query(**asked, horizon=horizon, interval=interval)
        return self._get(f"/v1/forecasts/{_segment(pair)}/probability{query}", Probability.model_validate)

    def history(self, pair: str, limit: int, horizon: int = 1, interval: str | None = None) -> list[PastForecast]:
        """Return forecasts made `horizon` candles ahead with their actual closes, newest first."""
        return self._get(
            f"/v1/forecasts/{_segment(pair)}/history{_query(limit=limit, horizon=horizon, interval=interval)}",
            lambda body: _PAST_FORECASTS.validate_python(body["forecasts"]),
        )

    def model(self, pair: str, interval: str | None = None) -> ModelCard:
        """Return the pair's model, the one before, and the newest versions with their decisions."""
        return self._get(f"/v1/models/{_segment(pair)}{_query(interval=interval)}", ModelCard.model_validate)

    def candles(self, pair: str, limit: int, interval: str | None = None) -> Candles:
        """Return the newest closed candles, oldest first. Needs NumPy."""
        from make_us_rich.market.candles import from_columns

        return self._get(
            f"/v1/candles/{_segment(pair)}{_query(limit=limit, interval=interval)}",
            lambda body: from_columns(CandleColumns.model_validate(body)),
        )

    def usage(self) -> Usage:
        """Return the token owner's calls of this month."""
        return self._get("/v1/usage", Usage.model_validate)

    def readiness(self) -> Readiness:
        """Return what each pair's replica serves; `ready` is false when one cannot answer. Needs no token.

        It does not retry.
        """
        try:
            answer = self._http.get("/readyz", timeout=_UPDATE_TIMEOUT_S)
        except httpx.HTTPError as error:
            raise self._unreachable(error, _UPDATE_TIMEOUT_S) from None
        return read_json(answer, Readiness.model_validate, ServiceUnavailable)

    def update_models(self, wait_s: float = 20.0, wait_for: Collection[str] | None = None) -> UpdatedModels:
        """Make the service swap to the present champions, and wait until it did; needs an admin's token.

        `wait_for`: names of the applications to wait for, such as btc_usdt_1h, or of the models that serve them; by
        default all. Returns which model serves each application.

        Raises ServiceRefused when a replica refuses its new model, ServiceUnavailable when it takes longer.
        """
        updated = self._order_update()
        deadline, reorder_at = time.monotonic() + wait_s, time.monotonic() + wait_s / 2
        while problem := self._not_serving(_wanted_models(updated, wait_for)):
            if time.monotonic() > deadline:
                raise ServiceUnavailable(f"the update takes longer than {wait_s:.0f} s: {problem}")
            if time.monotonic() > reorder_at:
                updated, reorder_at = self._order_update(), deadline  # the champion may have changed meanwhile
            time.sleep(_PAUSE_S)
        return updated

    def _order_update(self) -> UpdatedModels:
        try:
            answer = self._http.put("/update_models", timeout=_UPDATE_TIMEOUT_S)
        except httpx.HTTPError as error:
            raise self._unreachable(error, _UPDATE_TIMEOUT_S) from None
        if answer.is_error:
            detail, field = _problem(answer)
            raise ServiceRefused(detail, status=answer.status_code, field=field)
        return read_json(answer, UpdatedModels.model_validate, ServiceUnavailable)

    def _not_serving(self, wanted: Mapping[str, NamedVersion]) -> str:
        try:
            return not_serving(self.readiness().pairs, wanted)
        except ServiceUnavailable:
            return "/readyz does not answer"

    def _get(self, path: str, read: Callable[[Any], T]) -> T:
        """Retry transient errors: a GET is safe to repeat."""
        for attempt in range(1, _TRIES + 1):
            try:
                answer = self._http.get(path)
            except httpx.TimeoutException as error:
                raise self._unreachable(error, _TIMEOUT_S) from None
            except httpx.HTTPError as error:
                failure = self._unreachable(error, _TIMEOUT_S)
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

    def _unreachable(self, error: httpx.HTTPError, timeout_s: float) -> ServiceUnavailable:
        """Return the error of a call without an answer, with the address and the cause."""
        if isinstance(error, httpx.TimeoutException):
            cause = f"no answer within {timeout_s:.0f} s"
        else:
            cause = str(error) or type(error).__name__
        return ServiceUnavailable(f"the forecast service at {self._http.base_url} cannot be reached: {cause}")


def checked_token(token: str | None) -> str:
    """Return a token as a header can have it: without white space around it, as of a file, and without `Bearer`.

    Raises InputError, which does not quote it.
    """
    text = re.sub(r"^bearer\s+", "", (token or "").strip(), flags=re.IGNORECASE)
    wrong = re.search(r"[^!-~]", text)
    if wrong:
        message = (
            f"the token has a character at position {wrong.start() + 1} that no token has: only ASCII letters, digits "
            "and signs, without spaces or line breaks. Copy it again from the dashboard's API page"
        )
        raise InputError(message, field="token")
    return text


def _checked_address(api_url: str) -> str:
    """Return the base URL of the API. Raises InputError for what cannot be one."""
    url = api_url.strip()
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or not re.fullmatch("[!-~]+", url) or parts.query or parts.fragment or parts.username:
        raise InputError("the address of the API must be such as http://127.0.0.1:28000", field="api_url")
    if parts.path.rstrip("/").endswith("/v1"):
        raise InputError(f"leave /v1 out of the address of the API: {url.rstrip('/')[:-3]}", field="api_url")
    return url


def not_serving(states: Mapping[str, PairState], wanted: Mapping[str, NamedVersion]) -> str:
    """Return which application does not serve its wanted model yet, and why; empty when all do.

    A stopped replica counts as serving: it fetches its model when it starts. Raises ServiceRefused when a replica
    refuses the wanted model.
    """
    for name, model in wanted.items():
        state = states.get(name)
        if state is None:
            return f"{name} is unknown to the gateway"
        if state.asleep:
            continue
        serves = state.serves or "nothing"
        if state.wanted == model and state.refused:
            message = f"{name} refuses {model} and serves {serves}: {state.refused}"
            raise ServiceRefused(message, status=200, field=None)
        if state.serves != model:
            return f"{name} serves {serves} instead of {model}: {state.reason}"
    return ""


def _wanted_models(updated: UpdatedModels, names: Collection[str] | None) -> dict[str, NamedVersion]:
    """Return the model of each application: the foundation model, or else one with the application's name.

    `names` of the applications or models; None: all.
    """
    wanted = {}
    for application, version in updated.applications.items():
        is_foundation = application in updated.by_foundation
        name = foundation_name(Series.parse(application).interval) if is_foundation else application
        if names is None or not {application, name}.isdisjoint(names):
            wanted[application] = NamedVersion(name=name, version=version)
    return wanted


def _segment(text: str) -> str:
    """Quote a text as one segment of a path; an unquoted `..` would be one level up."""
    return quote(text, safe="").replace(".", "%2E")


def _query(**parameters: object) -> str:
    """Return the query of a URL with the parameters that are given, which are neither None nor empty."""
    given = {name: value for name, value in parameters.items() if value not in (None, "")}
    return f"?{urlencode(given, safe=',')}" if given else ""


def _joined(numbers: Iterable[float]) -> str:
    return ",".join(map(str, numbers))


def _problem(answer: httpx.Response) -> tuple[str, str | None]:
    """Return the detail and the field of a problem document."""
    try:
        body = answer.json()
        return str(body["detail"]), body.get("field")
    except UNEXPECTED:
        return f"the forecast service answered {answer.status_code}", None
