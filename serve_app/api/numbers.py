"""Numbers in the query of a URL, in plain digits. Python reads "1_0", " 10", "+10" and digits of any script too."""

from __future__ import annotations

import re

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"-?((0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?|nan|inf(inity)?)", re.IGNORECASE | re.ASCII)


def _whole(value: object) -> object:
    if isinstance(value, str) and not _WHOLE.fullmatch(value):
        message = "Input should be a valid integer in digits, such as 24, not {value}"
        raise PydanticCustomError("whole_number", message, {"value": repr(value[:40])})
    return value


def _decimal(value: object) -> object:
    if isinstance(value, str) and not _DECIMAL.fullmatch(value):
        message = "Input should be a valid number in digits, such as 37000 or 0.25, not {value}"
        raise PydanticCustomError("decimal_number", message, {"value": repr(value[:40])})
    return value


WHOLE, DECIMAL = BeforeValidator(_whole), BeforeValidator(_decimal)
"""They come after the limits in an `Annotated`, or OpenAPI lacks the limits."""
