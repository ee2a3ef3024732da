"""The API for scripts and the dashboard."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from make_us_rich.core.errors import InputError
from make_us_rich.core.pair import BITCOIN, SLUG, Pair, Series
from make_us_rich.documents import HORIZONS, Forecast, ModelCard, PastForecast, Probability, Usage
from make_us_rich.market.window import MOST_WINDOW_CANDLES, WINDOW_CANDLES, window_candles
from serve_app.api import schemas
from serve_app.api.bodies import REQUEST_BODY, OwnCandlesInBody
from serve_app.api.dependencies import (
    ALL,
    Caller,
    CallerWithCalls,
    Horizons,
    IntervalInQuery,
    PairInPath,
    Service,
    bearer_token,
    forecast_service,
    parse_horizons,
)
from serve_app.api.numbers import WHOLE
from serve_app.api.parameters import PriceQuestion
from serve_app.api.schemas import ModelChoice, respond
from serve_app.gateway.forecast_service import CachedForecast, ForecastService
from serve_app.problems import Problem, errors

_MOST_PAIRS = 100
_MODELS: tuple[ModelChoice, ...] = get_args(ModelChoice)
_CHAMPION: ModelChoice = "champion"
_NO_QUERY: Mapping[str, str] = {}
_OPAQUE_TAG = re.compile(r'"[^"]*"')

Limit = Annotated[int, Query(ge=1, le=WINDOW_CANDLES), WHOLE]
Horizon = Annotated[int, Query(ge=1, le=HORIZONS, description="candles ahead: 1 is the next close"), WHOLE]

router = APIRouter(prefix="/v1", tags=["v1"])


@router.get(
    "/pairs", response_model=schemas.Pairs, summary="Pairs and intervals that are served now", responses=errors(422)
)
async def pairs(service: Service, interval: IntervalInQuery = None) -> Response:
    """Without `interval`, those of each interval: a pair is listed once for each."""
    chosen = service.settings.forecast_intervals(interval)
    found = [schemas.ServedPair(**each._asdict()) for each in await service.served_series() if each.interval in chosen]
    return respond(schemas.Pairs(pairs=found))


class FastForecastRoute(APIRoute):
    """Calls `forecast` with the arguments that its signature declares, without FastAPI's dependency resolution.

    Most requests are GET /v1/forecasts/{pair}, and resolving takes as long again as an answer from the cache. OpenAPI
    still comes from the signature. tests/unit/serve_app/test_gateway.py compares this route with a usual one.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.app = _answer_forecast


async def _answer_forecast(scope: Scope, receive: Receive, send: Send) -> None:
    request = Request(scope)
    owner = await bearer_token(request)
    service = await forecast_service(request)
    query = request.query_params if scope["query_string"] else _NO_QUERY
    model = _model_choice(query.get("model", _CHAMPION))
    pair = Pair.parse(scope["path_params"]["pair"])
    if_none_match = ",".join(request.headers.getlist("If-None-Match"))
    interval = query.get("interval")
    response = await forecast(owner, service, pair, interval, model, query.get("horizons", ALL), if_none_match)
    await response(scope, receive, send)


def _model_choice(given: str) -> ModelChoice:
    for choice in _MODELS:
        if choice == given:
            return choice
    detail = f"{given[:40]!r} is no model: choose from {', '.join(_MODELS)}"
    raise Problem(422, "bad-input", detail, field="model")


async def forecast(
    owner: Caller,
    service: Service,
    pair: PairInPath,
    interval: IntervalInQuery = None,
    model: Annotated[ModelChoice, Query(description=schemas.MODEL_CHOICES)] = _CHAMPION,
    horizons: Horizons = ALL,
    if_none_match: Annotated[
        str, Header(alias="If-None-Match", description="the ETags of the forecasts you have, or *")
    ] = "",
) -> Response:
    asked = parse_horizons(horizons)
    cached = await service.forecast(service.series(pair, interval), model)
    if asked is not None:
        cached = cached.only(asked)
    if is_known(if_none_match, cached.etag):
        return Response(status_code=304, headers=cached.headers)
    quota = await service.count_call(owner)
    return Response(cached.body, headers=cached.headers | quota, media_type="application/json")


def is_known(if_none_match: str, etag: str) -> bool:
    """Tell whether `If-None-Match`, a list of ETags or `*`, has this ETag. A weak one equals the strong one."""
    return if_none_match.strip() == "*" or etag.removeprefix("W/") in _OPAQUE_TAG.findall(if_none_match)


router.add_api_route(
    "/forecasts/{pair}",
    forecast,
    route_class_override=FastForecastRoute,
    response_model=Forecast,
    summary="The next close of a pair, and the closes after it",
    responses=errors(401, 404, 422, 429, 503) | {304: {"description": "the forecast you have still holds; free"}},
)


@router.get(
    "/forecasts",
    response_model=schemas.Forecasts,
    summary="The next close of many pairs, and later ones if asked for; one call",
    responses=errors(401, 404, 422, 429, 503),
)
async def forecasts(
    service: Service,
    owner: CallerWithCalls,
    pairs: Annotated[
        str,
        Query(
            description="comma separated; when absent, all that are served, and none that sleeps is woken",
            examples=["btc_usdt,eth_usdt"],
            max_length=4000,
            json_schema_extra={"pattern": f"^({SLUG}(,{SLUG})*)?$"},
        ),
    ] = "",
    interval: IntervalInQuery = None,
    horizons: Horizons = "1",
) -> Response:
    chosen, length = parse_horizons(horizons), service.settings.forecast_interval(interval)
    named = [text.strip() for text in pairs.split(",") if text.strip()]
    asked = [Pair.parse(text) for text in dict.fromkeys(named)] or await service.served_pairs(length)
    if len(asked) > _MOST_PAIRS and named:
        raise Problem(422, "bad-input", f"{len(asked)} pairs asked for: ask for at most {_MOST_PAIRS}", field="pairs")
    answers = await asyncio.gather(
        *(_forecast_or_missing(service, Series(pair, length), chosen, wake=bool(named)) for pair in asked)
    )
    found = [answer for answer in answers if not isinstance(answer, schemas.Missing)]
    missing = [answer for answer in answers if isinstance(answer, schemas.Missing)]
    quota = await service.count_call(owner) if found else {}
    return respond(schemas.Forecasts(forecasts=found, missing=missing), headers=quota)


async def _forecast_or_missing(
    service: ForecastService, series: Series, horizons: tuple[int, ...] | None, *, wake: bool
) -> Forecast | schemas.Missing:
    try:
        cached = await service.forecast(series, wake=wake)
        return cached.document if horizons is None else _known_part(cached, horizons).document
    except Problem as problem:
        return schemas.Missing(pair=series.pair, detail=problem.detail)
    except InputError as error:
        return schemas.Missing(pair=series.pair, detail=str(error))


def _known_part(cached: CachedForecast, horizons: tuple[int, ...]) -> CachedForecast:
    """Leave out what this model lacks: one older model must not fail the call of all pairs. Raises InputError."""
    known = {item.horizon for item in cached.document.horizons}
    return cached.only(tuple(item for item in horizons if item in known) or horizons)


@router.post(
    "/forecasts/{pair}",
    response_model=Forecast,
    summary="The next close after your own candles, and the closes after it",
    responses=errors(401, 404, 413, 422, 429, 503),
    openapi_extra=REQUEST_BODY,
)
async def forecast_own(
    service: Service,
    owner: CallerWithCalls,
    pair: PairInPath,
    own: OwnCandlesInBody,
    interval: IntervalInQuery = None,
    horizons: Horizons = ALL,
) -> Response:
    asked, series = parse_horizons(horizons), service.series(pair, interval)
    await service.application_of(series)  # an unknown pair is reported before a wrong candle
    candles = own.candles.candles(series, "candles")
    reference = own.reference.candles(Series(BITCOIN, series.interval), "reference") if own.reference else None
    forecast = await service.forecast_from(series, candles, reference)
    answer = forecast if asked is None else forecast.only(asked)
    return respond(answer, headers=await service.count_call(owner))


@router.get(
    "/forecasts/{pair}/probability",
    response_model=Probability,
    summary="The probability of a close above or below a price, or between two",
    responses=errors(401, 404, 422, 429, 503),
)
async def probability(
    service: Service,
    owner: Caller,
    pair: PairInPath,
    above: Annotated[
        schemas.PriceInQuery | None, Query(description="a price, quote currency", examples=[37_000])
    ] = None,
    below: Annotated[schemas.PriceInQuery | None, Query(description="a price, quote currency")] = None,
    between: Annotated[str | None, Query(description="two prices, the lower one first, such as 36000,37000")] = None,
    horizon: Horizon = 1,
    interval: IntervalInQuery = None,
) -> Response:
    """Ask exactly one of `above`, `below` and `between`.

    The answer is of the price at `target_close_ms` alone. It is not the probability that the price touches a level on
    the way: the model forecasts closes, which say nothing of the path between them.

    It follows from the quantiles and the tail of the horizon (`make_us_rich/core/distribution.py`). Between the
    quantiles, the logarithm of the price is interpolated in the normal score of the probability. Below q05 and above
    q95 a generalised Pareto distribution continues it. The answer is at least 0.000001 and at most 0.999999, because
    the closes that the tails were fitted to say nothing of rarer events.
    """
    question = PriceQuestion.parse(above, below, between)
    answer = question.answer((await service.forecast(service.series(pair, interval))).document, horizon)
    return respond(answer, headers=await service.count_call(owner))


@router.get(
    "/forecasts/{pair}/history",
    response_model=schemas.History,
    summary="Past forecasts, and the actual closes",
    responses=errors(401, 404, 422, 429, 503),
)
async def history(
    service: Service,
    _: Caller,
    pair: PairInPath,
    limit: Limit = 168,
    horizon: Horizon = 1,
    interval: IntervalInQuery = None,
) -> Response:
    series = service.series(pair, interval)
    candles, past = await asyncio.gather(
        service.candles(series, WINDOW_CANDLES), service.past_forecasts(series, limit, horizon)
    )
    closes = dict(zip(candles.open_time_ms, candles.close, strict=True))
    outcomes = [with_outcome(forecast, closes.get(forecast.target_open_ms)) for forecast in past]
    market = service.settings.market
    return respond(schemas.History(pair=pair, interval=series.interval, market=market, forecasts=outcomes))


def with_outcome(forecast: PastForecast, close: float | None) -> PastForecast:
    """Add the actual close, and whether it fell into the 80 % band; both are None where the candle is unknown."""
    inside = None if close is None else forecast.quantiles.q10 <= close <= forecast.quantiles.q90
    return forecast.model_copy(update={"close": close, "inside_80": inside})


@router.get(
    "/candles/{pair}",
    response_model=schemas.Candles,
    summary="The newest closed candles of a pair",
    responses=errors(401, 404, 422, 429, 503),
)
async def candles(
    service: Service,
    _: Caller,
    pair: PairInPath,
    limit: Annotated[int, Query(ge=1, le=MOST_WINDOW_CANDLES), WHOLE] = 168,
    interval: IntervalInQuery = None,
) -> Response:
    """Up to 1,000 candles; below an hour 1,500, of which a model reads 1,368."""
    series = service.series(pair, interval)
    if limit > (most := window_candles(series.interval)):
        detail = f"limit: at most {most} candles of {series.interval} are kept"
        raise Problem(422, "bad-input", detail, field="limit")
    return respond(await service.candles(series, limit))


@router.get(
    "/models/{pair}",
    response_model=ModelCard,
    summary="The model that serves a pair, the one before it, and why newer ones do not",
    responses=errors(401, 404, 422, 429, 503),
)
async def model(service: Service, _: Caller, pair: PairInPath, interval: IntervalInQuery = None) -> Response:
    return respond(await service.model_card(service.series(pair, interval)))


@router.get(
    "/usage",
    response_model=Usage,
    summary="Calls of this month",
    responses=errors(401, 422, 429, 503, takes_parameters=False),
)
async def usage(service: Service, owner: Caller) -> Response:
    return respond(await service.usage(owner))
