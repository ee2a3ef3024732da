"""The endpoints of version 1, with the paths, parameters and fields that its clients know."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse, RedirectResponse

from make_us_rich.core.errors import MakeUsRichError
from make_us_rich.core.interval import Interval
from make_us_rich.operations import serve_deploy
from make_us_rich.operations.serve_config import REQUEST_TIMEOUT_S
from serve_app.api import schemas
from serve_app.api.problems import Problem, errors, unavailable
from serve_app.api.v1 import ServiceOf
from serve_app.gateway.auth import Admin, AdminOrDashboard, CallerByHeaderOrQuery

_SUBMIT_WITHIN_S = 0.8 * REQUEST_TIMEOUT_S  # so that our answer comes before Serve ends the request

router = APIRouter()


@router.get("/", include_in_schema=False)
async def home() -> RedirectResponse:
    return RedirectResponse("docs")


@router.put(
    "/predict",
    response_model=schemas.Prediction,
    tags=["forecasts"],
    summary="The next close of a pair",
    responses=errors(401, 404, 422, 429, 503),
)
async def predict(
    service: ServiceOf,
    owner: CallerByHeaderOrQuery,
    pair: Annotated[str | None, Query(description="such as btc_usdt", examples=["btc_usdt"])] = None,
    currency: Annotated[str | None, Query(description="base of the pair, when `pair` is absent")] = None,
    compare: Annotated[str | None, Query(description="quote of the pair, when `pair` is absent")] = None,
    _: Annotated[
        str | None, Query(alias="token", description="instead of the bearer header; proxies may log it")
    ] = None,
) -> JSONResponse:
    name = await service.find(_pair_of(pair, currency, compare))
    answer, candles = await asyncio.gather(service.forecast(name), service.ask(name, "candles", FIVE_DAYS))
    quota = await service.charge(owner)
    median = answer.document["quantiles"]["q50"]
    return JSONResponse(answer.document | {"prediction": median, "data": first_version_candles(candles)}, headers=quota)


def _pair_of(pair: str | None, currency: str | None, compare: str | None) -> str:
    if pair is not None:
        return pair
    if currency is None or compare is None:
        raise Problem(422, "bad-input", "name a pair: pair=btc_usdt, or currency=btc&compare=usdt", field="pair")
    return f"{currency}_{compare}".lower()


@router.put(
    "/update_models",
    response_model=schemas.UpdatedModels,
    status_code=202,
    tags=["admin"],
    summary="Serve the champions of this moment",
    responses=errors(401, 403, 503),
)
async def update_models(service: ServiceOf, _: AdminOrDashboard, response: Response) -> dict[str, Any]:
    """Ray Serve has its orders with this answer; GET /readyz tells when each pair `serves` what is `wanted`."""
    try:
        submitted = asyncio.to_thread(serve_deploy.submit, service.settings)
        applied = await asyncio.wait_for(submitted, _SUBMIT_WITHIN_S)
    except (MakeUsRichError, TimeoutError) as error:
        detail = str(error) or "registry, Postgres or Ray is slow: the order may still be carried out"
        raise unavailable("not-updated", detail, 30) from None
    response.headers["Location"] = "/readyz"
    return {
        "applications": dict(applied.applications),
        "by_foundation": list(applied.by_foundation),
        "without_champion": list(applied.without_champion),
    }


@router.put(
    "/update_date",
    response_model=schemas.UpdatedDate,
    tags=["admin"],
    summary="Fetch the newest closed candles now",
    responses=errors(401, 403, 503),
)
async def update_date(service: ServiceOf, _: Admin) -> dict[str, Any]:
    states = await service.directory.states("refresh")
    return {"as_of_ms": {name: state["as_of_ms"] for name, state in states.items()}}


@router.get(
    "/check_models_number",
    response_model=schemas.ModelsNumber,
    tags=["health"],
    summary="Which models are served, and how many",
)
async def check_models_number(service: ServiceOf) -> dict[str, Any]:
    models = [str(pair) for pair in await service.served_pairs()]
    said = f"Number of running models: {len(models)}" if models else "Warning: No models are running."
    return {"message": said, "models": models, "number_of_running_models": len(models)}


@router.get("/healthz", response_model=schemas.Health, tags=["health"], summary="Is the process alive")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@router.get(
    "/readyz",
    response_model=schemas.Readiness,
    tags=["health"],
    summary="Can every pair be answered, and which cannot",
    responses=errors(422)
    | {503: {"model": schemas.Readiness, "description": "a pair cannot be answered, or there is none"}},
)
async def readyz(service: ServiceOf) -> JSONResponse:
    states = await service.directory.states("status")
    ready = bool(states) and all(state["ready"] for state in states.values())
    return JSONResponse({"ready": ready, "pairs": states}, 200 if ready else 503)


FIVE_DAYS = 5 * 24
"""Candles of an hour in `data`."""


def first_version_candles(candles: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Turn the columns of `GET /v1/candles` into version 1's names, types and row numbers, oldest row first."""
    opens: Sequence[int] = candles["open_time_ms"]
    step = Interval.parse(candles["interval"]).ms
    columns: dict[str, list[Any]] = {
        "timestamp": [f"{datetime.fromtimestamp(time / 1000, UTC):%Y-%m-%dT%H:%M:%S}" for time in opens],
        **{name: [str(value) for value in candles[name]] for name in _NUMBERS},
        "close_time": [time + step - 1 for time in opens],
    }
    return {name: _numbered(values) for name, values in columns.items()}


_NUMBERS = ("open", "high", "low", "close", "volume")


def _numbered(values: Sequence[Any]) -> dict[str, Any]:
    return {str(row): value for row, value in enumerate(values)}
