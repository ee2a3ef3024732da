"""The error answers of an endpoint, for OpenAPI."""

from __future__ import annotations

from typing import Any

from serve_app.problems import MEDIA_TYPE
from serve_app.schemas import ProblemDocument

_MEANING = {
    401: "the token is absent, revoked, expired or was never issued",
    403: "the token is valid, but not an admin's",
    404: "the pair is not served",
    413: "the body is larger than a million bytes",
    422: "an input is malformed; `field` names it",
    429: "the month's calls are used; Retry-After says when they come back",
    503: "no answer at the moment; Retry-After says when to try again",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    schema = ProblemDocument.model_json_schema()
    return {
        status: {"description": _MEANING[status], "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }
