"""The types of values that the browser sends."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from dash_app.security.validation import IntervalName, Remembered
from make_us_rich.core.interval import Interval


def test_an_interval_comes_as_text_to_callbacks_that_are_strict_about_types() -> None:
    kind: TypeAdapter[Interval] = TypeAdapter(IntervalName)
    assert kind.validate_python("4h", strict=True) is Interval.H4
    for wrong in ("7m", "", 4, None):
        with pytest.raises(ValidationError):
            kind.validate_python(wrong, strict=True)


def test_what_another_version_left_counts_as_nothing() -> None:
    kind: TypeAdapter[str | None] = TypeAdapter(Remembered)
    assert [kind.validate_python(value, strict=True) for value in ("btc_usdt", 5, None, ["x"])] == [
        "btc_usdt",
        None,
        None,
        None,
    ]
