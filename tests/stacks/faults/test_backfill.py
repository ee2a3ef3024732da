"""A backfill of two past hours, one of them again: it stores the same forecasts, and leaves the champion in place."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.documents import HORIZONS
from make_us_rich.registry.client import BACKFILL_RUN, TAG_AIRFLOW_RUN, TAG_AS_OF_MS
from tests.support.accounts import transaction
from tests.support.airflow_api import backfill_is_done, start_backfill
from tests.support.embedded_stack import EmbeddedStack
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(900)

PAIR, NAME = "chz_usdt", "chz_usdt_1h"


def test_a_backfill_forecasts_the_past_and_leaves_the_champion(stack: EmbeddedStack) -> None:
    end_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000) - 40 * HOUR_MS
    ends_ms = [end_ms - HOUR_MS, end_ms]
    with stack.registry() as registry:
        champion = registry.find(NAME, "champion")

        _backfill(stack, ends_ms)
        forecasts = _forecasts(stack, ends_ms)
        versions = _versions(stack, ends_ms)
        _backfill(stack, ends_ms[1:])

        assert sorted(forecasts) == ends_ms
        assert all(found[-2] for found in forecasts.values()), "the forecasts are not marked as backfilled"
        assert [found[-1] for found in forecasts.values()] == [HORIZONS] * len(ends_ms)
        assert _forecasts(stack, ends_ms) == forecasts, "a repeated backfill gave other forecasts"
        assert _versions(stack, ends_ms) == versions, "a repeated backfill trained again"
        assert [len(found) for found in versions.values()] == [1, 1]
        assert registry.find(NAME, "champion") == champion
        for found in versions.values():
            assert BACKFILL_RUN in registry.get(NAME, found[0]).tags[TAG_AIRFLOW_RUN]


def _backfill(stack: EmbeddedStack, ends_ms: list[int]) -> None:
    starts = [datetime.fromtimestamp((end_ms - HOUR_MS) / 1000, UTC) for end_ms in ends_ms]
    made = start_backfill(stack.airflow, "train_pairs", starts[0], starts[-1], {"pairs": [PAIR]})
    wait_until(lambda: backfill_is_done(stack.airflow, made), 400, "the backfill does not end")


def _versions(stack: EmbeddedStack, ends_ms: list[int]) -> dict[int, list[int]]:
    with stack.registry() as registry:
        return {
            end_ms: [found.version for found in registry.versions_tagged(NAME, TAG_AS_OF_MS, str(end_ms))]
            for end_ms in ends_ms
        }


def _forecasts(stack: EmbeddedStack, ends_ms: list[int]) -> dict[int, tuple[float, ...]]:
    """Return version, last close, quantiles, mark and number of horizons of each forecast, by its target time."""
    with transaction(stack.database_url) as cursor:
        cursor.execute(
            "SELECT target_open_ms, model_version, last_close, q05, q50, q95, backfilled,"
            " array_length(horizon_quantiles, 1) FROM forecasts"
            " WHERE pair = %s AND target_open_ms = ANY(%s)",
            (PAIR, ends_ms),
        )
        return {row[0]: row[1:] for row in cursor.fetchall()}
