"""Every answer in the OpenAPI document has an example, which is what the service could answer."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from fastapi.routing import APIRoute
from pydantic import TypeAdapter

from infra.docs import openapi
from make_us_rich.accounts import Accounts
from make_us_rich.core.settings import Settings
from make_us_rich.database.pool import Database
from serve_app.api.app import make_app
from serve_app.gateway.replica_client import ServeReplicaClient
from serve_app.problems import MEDIA_TYPE
from tests.support.processes import PROJECT_ROOT

DOCUMENT = openapi()
ANSWERS = [
    (f"{method.upper()} {path}", status)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
    for status in operation["responses"]
    if status != "304"  # has no body
]


def media(operation: str, status: str) -> tuple[str, dict[str, Any]]:
    method, path = operation.split()
    (found,) = DOCUMENT["paths"][path][method.lower()]["responses"][status]["content"].items()
    return found


def schema_of(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the schema, with what it refers to in reach."""
    return answer["schema"] | {"components": DOCUMENT["components"]}


def example_of(answer: dict[str, Any]) -> Any:
    """Return the example of the answer, or else of the document that it refers to."""
    if "example" in answer:
        return answer["example"]
    document = DOCUMENT["components"]["schemas"][answer["schema"]["$ref"].rpartition("/")[2]]
    (example,) = document["examples"]
    return example


@pytest.mark.parametrize(("operation", "status"), ANSWERS)
def test_every_answer_has_an_example_that_its_schema_allows(operation: str, status: str) -> None:
    _, answer = media(operation, status)
    jsonschema.validate(example_of(answer), schema_of(answer), jsonschema.Draft202012Validator)


def test_examples_have_all_fields_of_their_documents_and_no_others() -> None:
    """A schema allows fields that it does not know, and lacks those with a default."""
    settings = Settings()
    app = make_app(settings, ServeReplicaClient(), Accounts(Database.from_settings(settings)))
    routes = [route for route in app.routes if isinstance(route, APIRoute) and route.include_in_schema]
    assert {f"{method} {route.path}" for route in routes for method in route.methods} == {name for name, _ in ANSWERS}
    for route in routes:
        (method,) = route.methods
        example = example_of(media(f"{method} {route.path}", str(route.status_code or 200))[1])
        model = TypeAdapter(route.response_model)
        written = json.loads(model.dump_json(model.validate_json(json.dumps(example), strict=True)))
        assert written == example, route.path


@pytest.mark.parametrize(("operation", "status"), [answer for answer in ANSWERS if media(*answer)[0] == MEDIA_TYPE])
def test_a_problem_is_of_its_status_and_of_a_documented_type(operation: str, status: str) -> None:
    example = example_of(media(operation, status)[1])
    assert example["status"] == int(status)
    errors = (PROJECT_ROOT / "docs" / "reference" / "api.md").read_text().partition("## Errors")[2]
    rows = [line for line in errors.splitlines() if line.startswith(f"| {status} |")]
    assert any(f"`{example['type'].rpartition(':')[2]}`" in row for row in rows), rows
