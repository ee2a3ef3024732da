"""The endpoints of version 1, with the paths, parameters and fields that its clients know."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, TypeVar

from fastapi import APIRouter, Query, Response
from fastapi.responses import RedirectResponse

from make_us_rich.core.errors import MakeUsRichError
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import Pair
from make_us_rich.core.times import from_ms
from make_us_rich.documents import CandleColumns, Readiness, UpdatedModels
from make_us_rich.pipeline import deployment
from make_us_rich.pipeline.deployment import REQUEST_TIMEOUT_S
from serve_app.api import schemas
from serve_app.api.dependencies import Admin, AdminOrDashboard, CallerByHeaderOrQuery, Service
from serve_app.api.openapi import EXAMPLES
from serve_app.api.schemas import respond
from serve_app.problems import Problem, errors, unavailable

_SUBMIT_WITHIN_S = 0.8 * REQUEST_TIMEOUT_S  # so that our answer comes before Serve ends the request
# Of its own: the other threads check tokens and count calls, which a silent registry must not hold up.
_DEPLOYING_THREAD = ThreadPoolExecutor(1, thread_name_prefix="deploying")
_FIVE_DAYS_MS = 5 * 24 * HOUR_MS

T = TypeVar("T")

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
    service: Service,
    owner: CallerByHeaderOrQuery,
    pair: Annotated[str | None, Query(description="such as btc_usdt", examples=["btc_usdt"])] = None,
    currency: Annotated[str | None, Query(description="base of the pair, when `pair` is absent")] = None,
    compare: Annotated[str | None, Query(description="quote of the pair, when `pair` is absent")] = None,
    _: Annotated[
        str | None, Query(alias="token", description="instead of the bearer header; proxies may log it")
    ] = None,
) -> Response:
    """Of the installation's first interval, which is 1h by default; `data` holds its candles of the last five days."""
    parsed = _parse_pair(pair, currency, compare)
    series = service.series(parsed, None)
    await service.check_quota(owner)
    rows = _FIVE_DAYS_MS // series.interval.ms
    forecast, candles = await asyncio.gather(service.forecast(series), service.candles(series, rows))
    prediction = schemas.Prediction(
        **dict(forecast.document), prediction=forecast.document.quantiles.q50, data=first_version_candles(candles)
    )
    return respond(prediction, headers=await service.count_call(owner))


def _parse_pair(pair: str | None, currency: str | None, compare: str | None) -> Pair:
    if pair is not None:
        return Pair.parse(pair)
    if currency is None or compare is None:
        raise Problem(422, "bad-input", "name a pair: pair=btc_usdt, or currency=btc&compare=usdt", field="pair")
    return Pair.parse(f"{currency}_{compare}".lower())


@router.put(
    "/update_models",
    response_model=UpdatedModels,
    status_code=202,
    tags=["admin"],
    summary="Serve the champions of this moment",
    responses=errors(401, 403, 503),
)
async def update_models(service: Service, _: AdminOrDashboard) -> Response:
    """Ray Serve has its orders with this answer; GET /readyz tells when each pair `serves` what is `wanted`."""
    try:
        apply = partial(deployment.apply, service.settings, timeout_s=REQUEST_TIMEOUT_S, wait=False)
        order = asyncio.get_running_loop().run_in_executor(_DEPLOYING_THREAD, apply)
        updated = await asyncio.wait_for(order, _SUBMIT_WITHIN_S)
    except (MakeUsRichError, TimeoutError) as error:
        detail = str(error) or "registry, Postgres or Ray is slow: the order may still be carried out"
        raise unavailable("not-updated", detail, 30) from None
    return respond(updated, status=202, headers={"Location": "/readyz"})


@router.put(
    "/update_date",
    response_model=schemas.UpdatedDate,
    tags=["admin"],
    summary="Fetch the newest closed candles now",
    responses=errors(401, 403, 503),
)
async def update_date(service: Service, _: Admin) -> Response:
    states = await service.replicas.states("refresh")
    return respond(schemas.UpdatedDate(as_of_ms={name: state.as_of_ms for name, state in states.items()}))


@router.get(
    "/check_models_number",
    response_model=schemas.ModelsNumber,
    tags=["health"],
    summary="Which models are served, and how many",
)
async def check_models_number(service: Service) -> Response:
    """Of the installation's first interval."""
    models = await service.served_pairs(service.settings.default_interval)
    message = f"Number of running models: {len(models)}" if models else "Warning: No models are running."
    return respond(schemas.ModelsNumber(message=message, models=models, number_of_running_models=len(models)))


@router.get("/healthz", response_model=schemas.Health, tags=["health"], summary="Is the process alive")
async def healthz() -> Response:
    return respond(schemas.Health(status="ok"))


@router.get(
    "/readyz",
    response_model=Readiness,
    tags=["health"],
    summary="Can every pair be answered, and which cannot",
    responses=errors(422, takes_parameters=False)
    | {
        503: {
            "model": Readiness,
            "description": "a pair that was served cannot be answered, or no pair can",
            "content": {"application/json": {"example": EXAMPLES["NotReady"]}},
        }
    },
)
async def readyz(service: Service) -> Response:
    found = await service.readiness()
    return respond(found, status=200 if found.ready else 503)


def first_version_candles(candles: CandleColumns) -> schemas.FirstVersionCandles:
    """Turn candles into version 1's columns: its names, numbers as text, values by row number, oldest row first."""
    step_ms = Interval.parse(candles.interval).ms
    opens = candles.open_time_ms
    numbers = ("open", "high", "low", "close", "volume")
    return schemas.FirstVersionCandles(
        timestamp=_by_row(f"{from_ms(time):%Y-%m-%dT%H:%M:%S}" for time in opens),
        close_time=_by_row(time + step_ms - 1 for time in opens),
        **{name: _by_row(map(str, getattr(candles, name))) for name in numbers},
    )


def _by_row(values: Iterable[T]) -> dict[str, T]:
    return {str(row): value for row, value in enumerate(values)}
