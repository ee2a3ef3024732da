"""Validation of callback requests: their shape, and the type of each value.

Dash passes on whatever a request holds, so without these checks a malformed one ends in an exception, which is a 500.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from inspect import signature
from typing import Annotated, Any, get_type_hints

from dash import Dash
from flask import Flask, abort, request
from pydantic import Field, TypeAdapter, ValidationError

Clicks = Annotated[int, Field(ge=0)] | None
"""How often a button was clicked or a timer fired."""
Text = Annotated[str, Field(max_length=4096)] | None
_CALLBACK_PATH = "/_dash-update-component"
_MAX_ID = 2**63 - 1  # of a row in Postgres


def validated(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Answer 400 unless every value has its annotated type. Place it directly above the callback's function."""
    hints = get_type_hints(callback, include_extras=True)
    types: list[TypeAdapter[Any]] = [TypeAdapter(hints[name]) for name in signature(callback).parameters]

    @wraps(callback)
    def call(*values: Any) -> Any:
        try:
            parsed = [kind.validate_python(value, strict=True) for kind, value in zip(types, values, strict=True)]
        except ValidationError as error:
            abort(400, f"A value of this request is invalid: {error.errors()[0]['msg']}.")
        return callback(*parsed)

    return call


def install(server: Flask, app: Dash) -> None:
    """Answer 400 to a callback request that does not match a registered callback, before Dash reads it."""

    @server.before_request
    def check_shape() -> None:
        is_callback = request.path == _CALLBACK_PATH and request.method == "POST"
        if is_callback and not _matches_a_callback(_read_body(), app.callback_map):
            abort(400, "This request matches no callback.")


def _read_body() -> Any:
    try:
        body = request.get_json()
        text = json.dumps(body, ensure_ascii=False)
        text.encode()  # fails on half a surrogate pair
    except (RecursionError, UnicodeEncodeError):
        return None
    return None if "\\u0000" in text else body  # Postgres accepts no NUL


def _matches_a_callback(body: Any, registered: Mapping[str, Any]) -> bool:
    if not isinstance(body, dict) or not isinstance(body.get("output"), str):
        return False
    callback = registered.get(body["output"], {})
    if "callback" not in callback:  # unknown, or a clientside callback
        return False
    inputs, state, changed = body.get("inputs", []), body.get("state", []), body.get("changedPropIds", [])
    if not (_all_match(inputs, callback["inputs"]) and _all_match(state, callback["state"])):
        return False
    known = {_property_name(part) for item in inputs for part in (item if isinstance(item, list) else [item])}
    if not isinstance(changed, list) or not all(isinstance(name, str) and name in known for name in changed):
        return False
    return _outputs_match(body.get("outputs"), body["output"])


def _all_match(sent: Any, expected: Sequence[Mapping[str, str]]) -> bool:
    return (
        isinstance(sent, list)
        and len(sent) == len(expected)
        and all(_matches(part, other) for part, other in zip(sent, expected, strict=True))
    )


def _matches(sent: Any, expected: Mapping[str, str]) -> bool:
    if not expected["id"].startswith("{"):
        return _has_property(sent, expected["property"]) and sent["id"] == expected["id"]
    keys = json.loads(expected["id"]).keys()  # of a pattern such as {"revoke":["ALL"]}: a list of its matches is sent
    return isinstance(sent, list) and all(
        _has_property(part, expected["property"])
        and isinstance(part["id"], dict)
        and part["id"].keys() == keys
        and all(type(value) is int and 0 < value <= _MAX_ID for value in part["id"].values())
        for part in sent
    )


def _has_property(sent: Any, name: str) -> bool:
    return isinstance(sent, dict) and "id" in sent and sent.get("property") == name


def _property_name(part: Mapping[str, Any]) -> str:
    """Return id and property with a dot between, as the browser writes them: the id of a pattern's match as JSON."""
    part_id = part["id"]
    text = part_id if isinstance(part_id, str) else json.dumps(part_id, sort_keys=True, separators=(",", ":"))
    return f"{text}.{part['property']}"


def _outputs_match(sent: Any, output: str) -> bool:
    """Compare the sent outputs with the callback's name: a.x for one output, ..a.x...b.y@hash.. for a list."""
    is_list = output.startswith("..")
    parts, names = (sent, output[2:-2].split("...")) if is_list else ([sent], [output])
    return (
        isinstance(parts, list)
        and all(isinstance(part, dict) and isinstance(part.get("id"), str) for part in parts)
        and [f"{part['id']}.{part.get('property')}".partition("@")[0] for part in parts]
        == [name.partition("@")[0] for name in names]
    )
