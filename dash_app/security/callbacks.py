"""Checks of what a callback is sent: the parts that it was registered with, each value of its annotated type.

Dash passes on whatever a request holds, so a mistyped call would end in an exception, which is a 500.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import wraps
from inspect import signature
from typing import Annotated, Any, get_type_hints

from dash import Dash
from flask import Flask, abort, request
from pydantic import Field, TypeAdapter, ValidationError

from make_us_rich.core.pair import SLUG

Clicks = Annotated[int, Field(ge=0)] | None
"""How often a button was clicked or a timer ran."""
Text = Annotated[str, Field(max_length=4096)] | None
PairName = Annotated[str, Field(pattern=f"^{SLUG}$")]
_PATH = "/_dash-update-component"
_LARGEST_ID = 2**63 - 1  # of a row in Postgres


def checked(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Directly above a callback's function: values that are not of the annotated types are answered with 400."""
    hints = get_type_hints(callback, include_extras=True)
    types: list[TypeAdapter[Any]] = [TypeAdapter(hints[name]) for name in signature(callback).parameters]

    @wraps(callback)
    def call(*values: Any) -> Any:
        try:
            made = [kind.validate_python(value, strict=True) for kind, value in zip(types, values, strict=True)]
        except ValidationError as error:
            abort(400, f"A value of this call is wrong: {error.errors()[0]['msg']}.")
        return callback(*made)

    return call


def install(server: Flask, app: Dash) -> None:
    """Refuse what has not the shape of a registered callback's call with 400, before Dash reads it."""

    @server.before_request
    def refuse() -> None:
        if request.path == _PATH and request.method == "POST" and not _has_shape(_body(), app.callback_map):
            abort(400, "This is no call of a callback.")


def _body() -> Any:
    try:
        body = request.get_json()
        text = json.dumps(body, ensure_ascii=False)
        text.encode()  # half a surrogate pair is no text
    except (RecursionError, UnicodeEncodeError):
        return None
    return None if "\\u0000" in text else body  # Postgres takes no NUL


def _has_shape(body: Any, registered: Mapping[str, Any]) -> bool:
    if not isinstance(body, dict) or not isinstance(body.get("output"), str):
        return False
    callback = registered.get(body["output"], {})
    if "callback" not in callback:  # unknown, or one that runs in the browser
        return False
    inputs, state, changed = body.get("inputs", []), body.get("state", []), body.get("changedPropIds", [])
    if not (_are(inputs, callback["inputs"]) and _are(state, callback["state"]) and isinstance(changed, list)):
        return False
    known = {_name(part) for item in inputs for part in (item if isinstance(item, list) else [item])}
    are_known = all(isinstance(name, str) and name in known for name in changed)
    return are_known and _has_outputs(body.get("outputs"), body["output"])


def _are(sent: Any, expected: list[dict[str, str]]) -> bool:
    return (
        isinstance(sent, list)
        and len(sent) == len(expected)
        and all(_is(part, other) for part, other in zip(sent, expected, strict=True))
    )


def _is(sent: Any, expected: Mapping[str, str]) -> bool:
    if not expected["id"].startswith("{"):
        return _is_part(sent, expected["property"]) and sent["id"] == expected["id"]
    keys = json.loads(expected["id"]).keys()  # a pattern, such as {"revoke":["ALL"]}: a list of what it matches
    return isinstance(sent, list) and all(
        _is_part(part, expected["property"])
        and isinstance(part["id"], dict)
        and part["id"].keys() == keys
        and all(type(value) is int and 0 < value <= _LARGEST_ID for value in part["id"].values())
        for part in sent
    )


def _is_part(sent: Any, name: str) -> bool:
    return isinstance(sent, dict) and "id" in sent and sent.get("property") == name


def _name(part: Mapping[str, Any]) -> str:
    """As the browser names what changed: an id and a property, the id as JSON when it is a pattern's."""
    known = part["id"]
    text = known if isinstance(known, str) else json.dumps(known, sort_keys=True, separators=(",", ":"))
    return f"{text}.{part['property']}"


def _has_outputs(sent: Any, output: str) -> bool:
    """Dash names several outputs ..a.x...b.y@hash.. and sends a list of parts; one is named a.x, and is no list."""
    are_many = output.startswith("..")
    parts, names = (sent, output[2:-2].split("...")) if are_many else ([sent], [output])
    return (
        isinstance(parts, list)
        and all(isinstance(part, dict) and isinstance(part.get("id"), str) for part in parts)
        and [f"{part['id']}.{part.get('property')}".partition("@")[0] for part in parts]
        == [name.partition("@")[0] for name in names]
    )
