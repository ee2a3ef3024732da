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
from pydantic import BaseModel, BeforeValidator, Field, TypeAdapter, ValidationError

from make_us_rich.core.interval import Interval

Clicks = Annotated[int, Field(ge=0)] | None
"""How often a button was clicked or a timer fired."""
Text = Annotated[str, Field(max_length=4096)] | None
Remembered = Annotated[Text, BeforeValidator(lambda value: value if isinstance(value, str) else None)]
"""A text that the browser remembers: another version may have left something else, which counts as nothing."""
# not the class itself, whose signature pydantic cannot read from Python 3.12 on
IntervalName = Annotated[Interval, BeforeValidator(lambda name: Interval(name))]
"""A candle interval, which the browser has as text."""
RowId = Annotated[int, Field(strict=True, gt=0, le=2**63 - 1)]
"""The id of a row in Postgres."""
_CALLBACK_PATH = "/_dash-update-component"


class _Property(BaseModel):
    """A property of a component. The id is an object when it belongs to a pattern, such as {"revoke": 7}."""

    id: str | dict[str, RowId]
    property: str


class _CallbackRequest(BaseModel):
    """The body that Dash's script sends. For a pattern a list of its matches is sent."""

    output: str
    outputs: _Property | list[_Property]
    inputs: list[_Property | list[_Property]] = []
    state: list[_Property | list[_Property]] = []
    changedPropIds: list[str] = []  # noqa: N815


def validated(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Answer 400 unless every value has its annotated type. `dash_app.callbacks` places it around every callback."""
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


def _read_body() -> _CallbackRequest | None:
    try:
        body = request.get_json()
        text = json.dumps(body, ensure_ascii=False)
        text.encode()  # fails on half a surrogate pair
        return None if "\\u0000" in text else _CallbackRequest.model_validate(body)  # Postgres accepts no NUL
    except (RecursionError, UnicodeEncodeError, ValidationError):
        return None


def _matches_a_callback(body: _CallbackRequest | None, registered: Mapping[str, Any]) -> bool:
    callback = registered.get(body.output, {}) if body else {}
    if body is None or "callback" not in callback:  # unknown, or a clientside callback
        return False
    sent = {_name(part) for item in body.inputs for part in (item if isinstance(item, list) else [item])}
    return (
        _all_match(body.inputs, callback["inputs"])
        and _all_match(body.state, callback["state"])
        and sent.issuperset(body.changedPropIds)
        and _outputs_match(body.outputs, body.output)
    )


def _all_match(sent: Sequence[_Property | list[_Property]], expected: Sequence[Mapping[str, str]]) -> bool:
    return len(sent) == len(expected) and all(_matches(part, other) for part, other in zip(sent, expected, strict=True))


def _matches(sent: _Property | list[_Property], expected: Mapping[str, str]) -> bool:
    if not expected["id"].startswith("{"):
        return isinstance(sent, _Property) and (sent.id, sent.property) == (expected["id"], expected["property"])
    keys = json.loads(expected["id"]).keys()  # of a pattern such as {"revoke":["ALL"]}
    return isinstance(sent, list) and all(
        isinstance(part.id, dict) and part.id.keys() == keys and part.property == expected["property"] for part in sent
    )


def _name(part: _Property) -> str:
    """Return id and property with a dot between, as the browser writes them: the id of a pattern's match as JSON."""
    text = part.id if isinstance(part.id, str) else json.dumps(part.id, sort_keys=True, separators=(",", ":"))
    return f"{text}.{part.property}"


def _outputs_match(sent: _Property | list[_Property], output: str) -> bool:
    """Compare the sent outputs with the callback's name: a.x for one output, ..a.x...b.y@hash.. for a list."""
    names = output[2:-2].split("...") if output.startswith("..") else output
    if isinstance(sent, list) != isinstance(names, list):
        return False
    parts = sent if isinstance(sent, list) else [sent]
    names = names if isinstance(names, list) else [names]
    return [_name(part).partition("@")[0] for part in parts] == [name.partition("@")[0] for name in names]
