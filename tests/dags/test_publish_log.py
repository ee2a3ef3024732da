"""A real run of publish_log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from make_us_rich.core.pair import Pair
from make_us_rich.database import forecast_logs
from make_us_rich.database.pool import Database
from tests.support.airflow_runs import DagEnvironment
from tests.support.track_record import serve_forecasts

pytestmark = pytest.mark.timeout(300)


def test_the_days_that_are_over_are_published_once(world: DagEnvironment) -> None:
    yesterday = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    noon_ms = int(yesterday.timestamp() * 1000) + 12 * 3_600_000
    with Database(world.database_url) as database:
        serve_forecasts(database, Pair("old", "usdt"), [noon_ms], [100.0], market="simulated")
        first, second = (world.run("publish_log", {}) for _ in range(2))

        assert (first.state, second.state) == ("success", "success")
        published = {each.day: each for each in forecast_logs.published(database, "simulated")}
        day = published[yesterday.date()]
        assert f"{day.day}: {day.forecasts} forecasts, {day.chain}" in first.log
        assert str(day.day) not in second.log
        assert b"old_usdt,1h," in (forecast_logs.content(database, "simulated", day.day, "csv") or b"")
