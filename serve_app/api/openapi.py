"""The OpenAPI document: FastAPI's own, with what FastAPI cannot know or leaves out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from make_us_rich.core.settings import Settings
from make_us_rich.market.window import window_candles
from serve_app.api.schemas import OwnCandles

EXAMPLES_FILE = Path(__file__).with_name("examples.json")
EXAMPLES: dict[str, Any] = json.loads(EXAMPLES_FILE.read_text())
"""Answers by the name of their document, and NotReady; tests/contract/test_openapi_examples.py records them."""


def complete_openapi(app: FastAPI, settings: Settings) -> None:
    """Let the document have the intervals of this installation and whole examples. Call it with all routes added."""
    written = app.openapi

    def completed() -> dict[str, Any]:
        if app.openapi_schema is None:  # FastAPI keeps what it has written there
            schema = written()
            _set_intervals(schema, settings)
            documents = schema["components"]["schemas"]
            for name in EXAMPLES.keys() & documents.keys():
                documents[name]["examples"] = [EXAMPLES[name]]
            _set_examples(schema, app)
            documents |= _own_candles()
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = completed  # type: ignore[method-assign]


def _own_candles() -> dict[str, Any]:
    """Return the schemas of the body that the endpoint reads itself."""
    schema = OwnCandles.model_json_schema(ref_template="#/components/schemas/{model}")
    parts: dict[str, Any] = schema.pop("$defs")
    return parts | {OwnCandles.__name__: schema}


def _set_intervals(schema: dict[str, Any], settings: Settings) -> None:
    """Let the parameters `interval` and `limit` of each operation take what this installation has."""
    for operation in (operation for path in schema["paths"].values() for operation in path.values()):
        for parameter in operation.get("parameters", ()):
            if parameter["name"] == "interval":
                parameter["schema"] = {"type": "string", "enum": list(settings.intervals)}
            if parameter["name"] == "limit":  # what is allowed for each of the intervals
                most = min(map(window_candles, settings.intervals))
                parameter["schema"]["maximum"] = min(most, parameter["schema"]["maximum"])


def _set_examples(schema: dict[str, Any], app: FastAPI) -> None:
    """Replace the examples of answers by the whole ones: FastAPI drops their fields that are null."""
    for route in app.routes:
        if not isinstance(route, APIRoute) or not route.include_in_schema:
            continue
        for method in route.methods:
            answers = schema["paths"][route.path][method.lower()]["responses"]
            for status, answer in route.responses.items():
                for media_type, content in answer.get("content", {}).items():
                    answers[str(status)]["content"][media_type] |= {"example": content["example"]}
