"""The API for scripts and the dashboard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from make_us_rich.core.pair import BITCOIN, SLUG, Pair
from make_us_rich.documents import Forecast, ModelCard, PastForecast, Usage
from make_us_rich.market.window import WINDOW_CANDLES
from serve_app.api import schemas
from serve_app.api.dependencies import Caller, PairInPath, Service, bearer_token, forecast_service
from serve_app.api.schemas import ModelChoice, respond
from serve_app.gateway.forecast_service import ForecastService
from serve_app.problems import Problem, errors

_MOST_PAIRS = 100
_MODELS: tuple[ModelChoice, ...] = get_args(ModelChoice)
_CHAMPION: ModelChoice = "champion"

Limit = Annotated[int, Query(ge=1, le=WINDOW_CANDLES)]

router = APIRouter(prefix="/v1", tags=["v1"])


@router.get("/pairs", response_model=schemas.Pairs, summary="Pairs that are served now", responses=errors(422))
async def pairs(service: Service) -> Response:
    interval = service.settings.interval
    served = await service.served_pairs()
    return respond(schemas.Pairs(pairs=[schemas.ServedPair(pair=pair, interval=interval) for pair in served]))


class FastForecastRoute(APIRoute):
    """Calls `forecast` with the arguments that its signature declares, without FastAPI's dependency resolution.

    Most requests are GET /v1/forecasts/{pair}, and resolving takes as long again as an answer from the cache. OpenAPI
    still comes from the signature. tests/unit/serve_app/test_gateway.py compares this route with a usual one.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        async def handle(request: Request) -> Response:
            owner = await bearer_token(request)
            service = await forecast_service(request)
            model = _model_choice(request) if request.scope["query_string"] else _CHAMPION
            pair = Pair.parse(request.path_params["pair"])
            if_none_match = request.headers.get("If-None-Match", "")
            return await forecast(owner, service, pair, model, if_none_match)

        return handle


def _model_choice(request: Request) -> ModelChoice:
    given = request.query_params.get("model", _CHAMPION)
    for choice in _MODELS:
        if choice == given:
            return choice
    detail = f"{given[:40]!r} is no model: choose from {', '.join(_MODELS)}"
    raise Problem(422, "bad-input", detail, field="model")


async def forecast(
    owner: Caller,
    service: Service,
    pair: PairInPath,
    model: Annotated[ModelChoice, Query(description=schemas.MODEL_CHOICES)] = _CHAMPION,
    if_none_match: Annotated[str, Header(alias="If-None-Match", description="the ETag of the forecast you have")] = "",
) -> Response:
    cached = await service.forecast(pair, model)
    if if_none_match == cached.etag:
        return Response(status_code=304, headers=cached.headers)
    quota = await service.count_call(owner)
    return Response(cached.body, headers=cached.headers | quota, media_type="application/json")


router.add_api_route(
    "/forecasts/{pair}",
    forecast,
    route_class_override=FastForecastRoute,
    response_model=Forecast,
    summary="The next close of a pair",
    responses=errors(401, 404, 422, 429, 503) | {304: {"description": "the forecast you have still holds; free"}},
)


@router.get(
    "/forecasts",
    response_model=schemas.Forecasts,
    summary="The next close of many pairs, for one call",
    responses=errors(401, 404, 422, 429, 503),
)
async def forecasts(
    service: Service,
    owner: Caller,
    pairs: Annotated[
        str,
        Query(
            description="comma separated; when absent, all that are served, and none that sleeps is woken",
            examples=["btc_usdt,eth_usdt"],
            max_length=4000,
            json_schema_extra={"pattern": f"^({SLUG}(,{SLUG})*)?$"},
        ),
    ] = "",
) -> Response:
    named = [text.strip() for text in pairs.split(",") if text.strip()]
    asked = [Pair.parse(text) for text in dict.fromkeys(named)] or await service.served_pairs()
    if len(asked) > _MOST_PAIRS and named:
        raise Problem(422, "bad-input", f"{len(asked)} pairs asked for: ask for at most {_MOST_PAIRS}", field="pairs")
    answers = await asyncio.gather(*(_forecast_or_missing(service, pair, wake=bool(named)) for pair in asked))
    found = [answer for answer in answers if not isinstance(answer, schemas.Missing)]
    missing = [answer for answer in answers if isinstance(answer, schemas.Missing)]
    quota = await service.count_call(owner) if found else {}
    return respond(schemas.Forecasts(forecasts=found, missing=missing), headers=quota)


async def _forecast_or_missing(service: ForecastService, pair: Pair, *, wake: bool) -> Forecast | schemas.Missing:
    try:
        return (await service.forecast(pair, wake=wake)).document
    except Problem as problem:
        return schemas.Missing(pair=pair, detail=problem.detail)


@router.post(
    "/forecasts/{pair}",
    response_model=Forecast,
    summary="The next close after your own candles",
    responses=errors(401, 404, 413, 422, 429, 503),
)
async def forecast_own(service: Service, owner: Caller, pair: PairInPath, own: schemas.OwnCandles) -> Response:
    await service.application_of(pair)  # an unknown pair is reported before a wrong candle
    interval = service.settings.interval
    candles = own.candles.candles(pair, interval, "candles")
    reference = own.reference.candles(BITCOIN, interval, "reference") if own.reference else None
    forecast = await service.forecast_from(pair, candles, reference)
    return respond(forecast, headers=await service.count_call(owner))


@router.get(
    "/forecasts/{pair}/history",
    response_model=schemas.History,
    summary="Past forecasts, and the closes that came",
    responses=errors(401, 404, 422, 429, 503),
)
async def history(service: Service, _: Caller, pair: PairInPath, limit: Limit = 168) -> Response:
    candles, past = await asyncio.gather(service.candles(pair, WINDOW_CANDLES), service.past_forecasts(pair, limit))
    closes = dict(zip(candles.open_time_ms, candles.close, strict=True))
    outcomes = [_with_outcome(forecast, closes.get(forecast.target_open_ms)) for forecast in past]
    settings = service.settings
    return respond(schemas.History(pair=pair, interval=settings.interval, market=settings.market, forecasts=outcomes))


def _with_outcome(forecast: PastForecast, close: float | None) -> PastForecast:
    """Add the actual close, and whether it fell into the 80 % band; both are None where the candle is unknown."""
    inside = None if close is None else forecast.quantiles.q10 <= close <= forecast.quantiles.q90
    return forecast.model_copy(update={"close": close, "inside_80": inside})


@router.get(
    "/candles/{pair}",
    response_model=schemas.Candles,
    summary="The newest closed candles of a pair",
    responses=errors(401, 404, 422, 429, 503),
)
async def candles(service: Service, _: Caller, pair: PairInPath, limit: Limit = 168) -> Response:
    return respond(await service.candles(pair, limit))


@router.get(
    "/models/{pair}",
    response_model=ModelCard,
    summary="The model that serves a pair, the one before it, and why newer ones do not",
    responses=errors(401, 404, 422, 429, 503),
)
async def model(service: Service, _: Caller, pair: PairInPath) -> Response:
    return respond(await service.model_card(pair))


@router.get("/usage", response_model=Usage, summary="Calls of this month", responses=errors(401, 422, 429, 503))
async def usage(service: Service, owner: Caller) -> Response:
    return respond(await service.usage(owner))
