"""The API for scripts and the dashboard."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse

from make_us_rich.core.pair import BITCOIN, SLUG, Pair
from make_us_rich.market.window import WINDOW_CANDLES
from serve_app.api import fast_forecast, schemas
from serve_app.api.history import past_forecasts, with_outcome
from serve_app.api.problems import Problem, check_query, errors
from serve_app.gateway.auth import Caller
from serve_app.gateway.forecast_service import ForecastService
from serve_app.gateway.model_card import model_card

_MOST_PAIRS = 100
_MOST_CANDLES = WINDOW_CANDLES

router = APIRouter(prefix="/v1", tags=["v1"])


async def service(request: Request) -> ForecastService:  # async, or FastAPI runs it in a thread at every call
    if request.scope["query_string"]:
        check_query(request, {field.alias for field in request.scope["route"].dependant.query_params})
    made: ForecastService = request.app.state.service
    return made


ServiceOf = Annotated[ForecastService, Depends(service)]
PairName = Annotated[
    str,
    Path(
        description="base_quote in lower case",
        examples=["btc_usdt"],
        json_schema_extra={"pattern": f"^{SLUG}$"},  # shown, not enforced: our own error says more
    ),
]


@router.get("/pairs", response_model=schemas.Pairs, summary="Pairs that are served now", responses=errors(422))
async def pairs(service: ServiceOf) -> dict[str, Any]:
    interval = service.settings.interval
    return {"pairs": [{"pair": str(pair), "interval": interval} for pair in await service.served_pairs()]}


router.get(
    "/forecasts/{pair}",
    response_model=schemas.Forecast,
    summary="The next close of a pair",
    openapi_extra=fast_forecast.OPENAPI,
    responses=errors(401, 404, 422, 429, 503) | {304: {"description": "the forecast you have still holds; free"}},
)(fast_forecast.forecast)


@router.get(
    "/forecasts",
    response_model=schemas.Forecasts,
    summary="The next close of many pairs, for one call",
    responses=errors(401, 404, 422, 429, 503),
)
async def forecasts(
    service: ServiceOf,
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
) -> JSONResponse:
    wanted = [text.strip() for text in pairs.split(",") if text.strip()]
    asked = [Pair.parse(text) for text in dict.fromkeys(wanted)] or await service.served_pairs()
    if len(asked) > _MOST_PAIRS and wanted:
        raise Problem(422, "bad-input", f"{len(asked)} pairs asked for, at most {_MOST_PAIRS} go", field="pairs")
    answers = await asyncio.gather(*(_or_problem(service, pair, wake=bool(wanted)) for pair in asked))
    missing = [
        {"pair": str(pair), "detail": answer.detail}
        for pair, answer in zip(asked, answers, strict=True)
        if isinstance(answer, Problem)
    ]
    found = [answer for answer in answers if not isinstance(answer, Problem)]
    quota = await service.charge(owner) if found else {}
    return JSONResponse({"forecasts": found, "missing": missing}, headers=quota)


async def _or_problem(service: ForecastService, pair: Pair, *, wake: bool) -> dict[str, Any] | Problem:
    try:
        return (await service.forecast(await service.find(str(pair)), wake=wake)).document
    except Problem as problem:
        return problem


@router.post(
    "/forecasts/{pair}",
    response_model=schemas.Forecast,
    summary="The next close after your own candles",
    responses=errors(401, 404, 413, 422, 429, 503),
)
async def forecast_own(pair: PairName, service: ServiceOf, owner: Caller, own: schemas.OwnCandles) -> JSONResponse:
    name = await service.find(pair)
    candles = own.candles.columns(pair, service.settings.interval, "candles")
    reference = own.reference and own.reference.columns(str(BITCOIN), service.settings.interval, "reference")
    document = await service.ask(name, "forecast_from", candles, reference)
    quota = await service.charge(owner)
    return JSONResponse(document, headers=quota)


@router.get(
    "/forecasts/{pair}/history",
    response_model=schemas.History,
    summary="Past forecasts, and the closes that came",
    responses=errors(401, 404, 422, 429, 503),
)
async def history(
    pair: PairName, service: ServiceOf, _: Caller, limit: Annotated[int, Query(ge=1, le=_MOST_CANDLES)] = 168
) -> JSONResponse:
    name = await service.find(pair)
    candles, past = await asyncio.gather(
        service.ask(name, "candles", _MOST_CANDLES),
        asyncio.to_thread(past_forecasts, service.settings, Pair.parse(pair), limit),
    )
    closes = dict(zip(candles["open_time_ms"], candles["close"], strict=True))
    about = {"pair": pair, "interval": service.settings.interval, "market": service.settings.market}
    outcomes = [with_outcome(forecast, closes.get(forecast.target_open_ms)).model_dump() for forecast in past]
    return JSONResponse(about | {"forecasts": outcomes})


@router.get(
    "/candles/{pair}",
    response_model=schemas.Candles,
    summary="The newest closed candles of a pair",
    responses=errors(401, 404, 422, 429, 503),
)
async def candles(
    pair: PairName, service: ServiceOf, _: Caller, limit: Annotated[int, Query(ge=1, le=_MOST_CANDLES)] = 168
) -> JSONResponse:
    return JSONResponse(await service.ask(await service.find(pair), "candles", limit))


@router.get(
    "/models/{pair}",
    response_model=schemas.ModelCard,
    summary="The model that serves a pair, the one before it, and why newer ones do not",
    responses=errors(401, 404, 422, 429, 503),
)
async def model(pair: PairName, service: ServiceOf, _: Caller) -> JSONResponse:
    name = await service.find(pair)
    serving = await service.ask(name, "model")
    return JSONResponse(await asyncio.to_thread(model_card, service.settings, name, serving))


@router.get("/usage", response_model=schemas.Usage, summary="Calls of this month", responses=errors(401, 422, 429, 503))
async def usage(service: ServiceOf, owner: Caller) -> Any:
    return await service.usage(owner)
