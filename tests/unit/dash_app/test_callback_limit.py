"""The limit of callbacks for each user."""

from __future__ import annotations

import pytest
from werkzeug.exceptions import TooManyRequests

from dash_app.security.callback_limit import CALLBACKS_PER_MINUTE, DRAWING_COST, CallbackLimit


def test_a_bucket_empties_refills_and_is_each_users_own() -> None:
    now_s = [1000.0]
    limit = CallbackLimit(lambda: now_s[0])
    for _ in range(CALLBACKS_PER_MINUTE // DRAWING_COST):
        limit.take(1, DRAWING_COST)
    with pytest.raises(TooManyRequests, match="Wait 2 s"):
        limit.take(1, DRAWING_COST)
    limit.take(2, DRAWING_COST)
    now_s[0] += 2
    limit.take(1, DRAWING_COST)
    with pytest.raises(TooManyRequests):
        limit.take(1, 1)
    now_s[0] += 61
    for _ in range(CALLBACKS_PER_MINUTE):
        limit.take(1, 1)
