"""An error of a Ray worker reaches the driver, and the task's log, pickled."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime

import pytest

from make_us_rich.core.errors import InputError, MakeUsRichError, NotEnoughHistory, QuotaExceeded, RateLimited


@pytest.mark.parametrize(
    "error",
    [
        InputError("use lstm", field="architecture"),
        NotEnoughHistory("12 candles, 48 are needed"),
        RateLimited("wait", retry_after_s=2.0),
        QuotaExceeded("used up", limit=100, resets_at=datetime(2026, 1, 1, tzinfo=UTC)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_with_details_survives_pickling(error: MakeUsRichError) -> None:
    again = pickle.loads(pickle.dumps(error))

    assert type(again) is type(error)
    assert (str(again), vars(again)) == (str(error), vars(error))
