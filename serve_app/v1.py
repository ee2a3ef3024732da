"""The API for scripts and the dashboard."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse

from make_us_rich.pairs import BITCOIN, SLUG, Pair
from serve_app import forecast_call, schemas
from serve_app.auth import Caller
from serve_app.desk import Desk
from serve_app.history import past_forecasts, with_outcomes
from serve_app.market_window import KEPT
from serve_app.model_card import model_card
from serve_app.problems import Problem
from serve_app.query import check_query
from serve_app.responses import errors

_MOST_PAIRS = 100
_MOST_CANDLES = KEPT

router = APIRouter(prefix="/v1", tags=["v1"])


async def desk(request: Request) -> Desk:  # async, or FastAPI runs it in a thread at every call
    if request.scope["query_string"]:
        check_query(request, {field.alias for field in request.scope["route"].dependant.query_params})
    made: Desk = request.app.state.desk
    return made


DeskOf = Annotated[Desk, Depends(desk)]
PairName = Annotated[
    str,
    Path(
        description="base_quote in lower case",
        examples=["btc_usdt"],
        json_schema_extra={"pattern": f"^{SLUG}$"},  # shown, not enforced: our own error says more
    ),
]


@router.get(
    "/pairs", response_model=schemas.Pairs, summary="Pairs that are served now", responses=errors(422)
)
async def pairs(desk: DeskOf) -> dict[str, Any]:
    interval = desk.settings.interval
    return {"pairs": [{"pair": str(pair), "interval": interval} for pair in await desk.served_pairs()]}


router.get(
    "/forecasts/{pair}",
    response_model=schemas.Forecast,
    summary="The next close of a pair",
    openapi_extra=forecast_call.OPENAPI,
    responses=errors(401, 404, 422, 429, 503)
    | {304: {"description": "the forecast you have still holds; free"}},
)(forecast_call.forecast)


@router.get(
    "/forecasts",
    response_model=schemas.Forecasts,
    summary="The next close of many pairs, for one call",
    responses=errors(401, 404, 422, 429, 503),
)
async def forecasts(
    desk: DeskOf,
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
    asked = [Pair.parse(text) for text in dict.fromkeys(wanted)] or await desk.served_pairs()
    if len(asked) > _MOST_PAIRS and wanted:
        raise Problem(
            422, "bad-input", f"{len(asked)} pairs asked for, at most {_MOST_PAIRS} go", field="pairs"
        )
    answers = await asyncio.gather(*(_or_problem(desk, pair, wake=bool(wanted)) for pair in asked))
    missing = [
        {"pair": str(pair), "detail": answer.detail}
        for pair, answer in zip(asked, answers, strict=True)
        if isinstance(answer, Problem)
    ]
    found = [answer for answer in answers if not isinstance(answer, Problem)]
    quota = await desk.charge(owner) if found else {}
    return JSONResponse({"forecasts": found, "missing": missing}, headers=quota)


async def _or_problem(desk: Desk, pair: Pair, *, wake: bool) -> dict[str, Any] | Problem:
    try:
        return (await desk.forecast(await desk.find(str(pair)), wake=wake)).document
    except Problem as problem:
        return problem


@router.post(
    "/forecasts/{pair}",
    response_model=schemas.Forecast,
    summary="The next close after your own candles",
    responses=errors(401, 404, 413, 422, 429, 503),
)
async def forecast_own(pair: PairName, desk: DeskOf, owner: Caller, own: schemas.OwnCandles) -> JSONResponse:
    name = await desk.find(pair)
    candles = own.candles.columns(pair, desk.settings.interval, "candles")
    reference = own.reference and own.reference.columns(str(BITCOIN), desk.settings.interval, "reference")
    document = await desk.ask(name, "forecast_from", candles, reference)
    quota = await desk.charge(owner)
    return JSONResponse(document, headers=quota)


@router.get(
    "/forecasts/{pair}/history",
    response_model=schemas.History,
    summary="Past forecasts, and the closes that came",
    responses=errors(401, 404, 422, 429, 503),
)
async def history(
    pair: PairName, desk: DeskOf, _: Caller, limit: Annotated[int, Query(ge=1, le=_MOST_CANDLES)] = 168
) -> JSONResponse:
    name = await desk.find(pair)
    candles, past = await asyncio.gather(
        desk.ask(name, "candles", _MOST_CANDLES),
        asyncio.to_thread(past_forecasts, desk.settings, pair, limit),
    )
    about = {"pair": pair, "interval": desk.settings.interval, "market": desk.settings.market}
    return JSONResponse(about | {"forecasts": with_outcomes(past, candles)})


@router.get(
    "/candles/{pair}",
    response_model=schemas.Candles,
    summary="The newest closed candles of a pair",
    responses=errors(401, 404, 422, 429, 503),
)
async def candles(
    pair: PairName,
    desk: DeskOf,
    _: Caller,
    limit: Annotated[int, Query(ge=1, le=_MOST_CANDLES)] = 168,
) -> JSONResponse:
    return JSONResponse(await desk.ask(await desk.find(pair), "candles", limit))


@router.get(
    "/models/{pair}",
    response_model=schemas.ModelCard,
    summary="The model that serves a pair, the one before it, and why newer ones do not",
    responses=errors(401, 404, 422, 429, 503),
)
async def model(pair: PairName, desk: DeskOf, _: Caller) -> JSONResponse:
    name = await desk.find(pair)
    serving = await desk.ask(name, "model")
    return JSONResponse(await asyncio.to_thread(model_card, desk.settings, name, serving))


@router.get(
    "/usage",
    response_model=schemas.Usage,
    summary="Calls of this month",
    responses=errors(401, 422, 429, 503),
)
async def usage(desk: DeskOf, owner: Caller) -> Any:
    return await desk.usage(owner)
