"""The files of a published day."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime

import numpy as np
import pytest

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import Pair
from make_us_rich.database.forecast_logs import LoggedForecast
from make_us_rich.record import forecast_log
from tests.support.documentation import sizing_bytes

MIDNIGHT_MS = 1_700_006_400_000


def test_a_day_of_100_pairs_needs_what_the_sizing_page_says() -> None:
    random = np.random.default_rng(0)
    live = []
    for hour in range(24):
        as_of_ms = MIDNIGHT_MS + hour * HOUR_MS
        made_at = datetime.fromtimestamp(as_of_ms / 1000 + 20, UTC)
        for number in range(100):
            last_close = round(30_000 * float(np.exp(random.normal())), 2)
            bands = np.sort(random.normal(size=(24, 7)), axis=1) * 0.006
            prices = [[float(str(np.float32(each))) for each in row] for row in last_close * np.exp(bands)]
            pair = Pair(f"coin{number}", "usdt")
            live.append(LoggedForecast(pair, Interval.H1, as_of_ms, made_at, 3, False, last_close, prices))

    rows = list(forecast_log._rows(live))
    size = len(gzip.compress(forecast_log._as_csv(rows))) + len(forecast_log._as_parquet(rows))

    assert size / len(live) == pytest.approx(sizing_bytes("a forecast in the published log"), rel=0.05)
