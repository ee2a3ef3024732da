"""The body of POST: read after the token and the quota were checked, which FastAPI would do the other way round."""

from __future__ import annotations

import json
from collections import Counter
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from serve_app.api.dependencies import CallerWithCalls
from serve_app.api.schemas import OwnCandles
from serve_app.problems import Problem

REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{OwnCandles.__name__}"}}},
    }
}
"""What OpenAPI says of it; `openapi.py` adds the schema."""


async def _own_candles(request: Request, _: CallerWithCalls) -> OwnCandles:
    """Raises Problem 422, or RequestValidationError naming the field."""
    content_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if content_type != "application/json" and not content_type.endswith("+json"):
        raise _bad("the body must be JSON: send the header 'Content-Type: application/json'")
    body = _parse(await request.body())
    if not isinstance(body, dict):
        raise _bad('the body must be a JSON object, such as {"candles": {...}}')
    try:
        return OwnCandles.model_validate(body)
    except ValidationError as error:
        found = error.errors(include_url=False)
        first = next(
            (item for item in found if item["type"] == "extra_forbidden"), found[0]
        )  # it may be a misspelt one
        raise RequestValidationError([{**first, "loc": ("body", *first["loc"])}]) from None


OwnCandlesInBody = Annotated[OwnCandles, Depends(_own_candles)]


def _parse(content: bytes) -> object:
    """Parse JSON in UTF-8. Raises Problem 422, also for a key that is given twice."""
    try:
        return json.loads(content.decode(), object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise _bad(f"the body is not JSON, at character {error.pos}") from None
    except RecursionError:
        raise _bad("the body is nested too deeply") from None
    except ValueError:
        raise _bad("the body is not JSON in UTF-8, or has a number of thousands of digits") from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((name, times),) = Counter(key for key, _ in pairs).most_common(1)
        raise _bad(f"{name[:40]!r} is given {times} times in one object: give it once")
    return found


def _bad(detail: str) -> Problem:
    return Problem(422, "bad-input", detail, field="body")
