"""GET /v1/forecasts/{pair}, the call that most calls are.

It reads its arguments by hand: finding them in FastAPI's way takes as much again as the answer from memory does.
"""

from __future__ import annotations

from typing import Any, get_args

from fastapi import Request, Response

from make_us_rich.core.pair import SLUG
from make_us_rich.registry.client import CHAMPION
from serve_app.api import schemas
from serve_app.api.problems import Problem, check_query
from serve_app.gateway.auth import bearer_token
from serve_app.gateway.forecast_service import ForecastService

_MODELS = get_args(schemas.ModelChoice)

OPENAPI: dict[str, Any] = {
    "security": [{"token": []}],
    "parameters": [
        {
            "name": "pair",
            "in": "path",
            "required": True,
            "description": "base_quote in lower case",
            "schema": {"type": "string", "pattern": f"^{SLUG}$", "examples": ["btc_usdt"]},
        },
        {
            "name": "model",
            "in": "query",
            "required": False,
            "description": schemas.MODEL_CHOICES,
            "schema": {"type": "string", "enum": list(_MODELS), "default": CHAMPION},
        },
        {
            "name": "If-None-Match",
            "in": "header",
            "required": False,
            "description": "the ETag of the forecast you have",
            "schema": {"type": "string"},
        },
    ],
}


async def forecast(request: Request) -> Response:
    owner = await bearer_token(request)
    service: ForecastService = request.app.state.service
    model = _model(request) if request.scope["query_string"] else CHAMPION
    answer = await service.forecast(await service.find(request.path_params["pair"]), model)
    if request.headers.get("If-None-Match") == answer.etag:
        return Response(status_code=304, headers=answer.headers)
    quota = await service.charge(owner)
    return Response(answer.body, headers=answer.headers | quota, media_type="application/json")


def _model(request: Request) -> str:
    check_query(request, ["model"])
    model = request.query_params.get("model", CHAMPION)
    if model not in _MODELS:
        detail = f"{model[:40]!r} is no model: choose from {', '.join(_MODELS)}"
        raise Problem(422, "bad-input", detail, field="model")
    return model
