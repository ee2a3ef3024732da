"""Klines of a folder, read as they are and resampled to longer intervals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from make_us_rich.core.errors import BadCandles, InputError
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.market.candles import Candles
from make_us_rich.market.recordings import klines_path, read_klines, read_recorded, resample, write_klines
from tests.support.recorded_data import recorded
from tests.unit.forecasting.random_candles import random_candles, without

ETHER = Pair("eth", "usdt")


def _plain(candles: Candles, to: Interval, count: int) -> list[tuple[float, ...]]:
    """Resample in plain Python: (open time, open, high, low, close, volume)."""
    groups: dict[int, list[tuple[float, ...]]] = {}
    for row in zip(*vars(candles).values(), strict=True):
        groups.setdefault(int(row[0]) // to.ms * to.ms, []).append(row)
    return [
        (
            time_ms,
            rows[0][1],
            max(row[2] for row in rows),
            min(row[3] for row in rows),
            rows[-1][4],
            pytest.approx(sum(row[5] for row in rows)),
        )
        for time_ms, rows in groups.items()
        if len(rows) == count
    ]


@pytest.mark.parametrize(("to", "count"), [(Interval.H4, 4), (Interval.D1, 24), (Interval.H1, 1)])
def test_a_longer_candle_exists_where_all_its_parts_do(to: Interval, count: int) -> None:
    candles = without(without(random_candles(1, 500), 100, 1), 300, 30)[3:-5]
    merged = resample(candles, Interval.H1, to)
    rows = list(zip(*(column.tolist() for column in vars(merged).values()), strict=True))
    assert rows == _plain(candles, to, count)
    assert len(rows) < len(candles) / count or count == 1


def test_no_candle_is_made_of_parts_alone() -> None:
    assert len(resample(random_candles(1, 3), Interval.H1, Interval.H4)) == 0
    assert len(resample(random_candles(1, 0), Interval.H1, Interval.H4)) == 0


def test_a_folder_of_hours_gives_longer_candles_and_no_shorter_ones(tmp_path: Path) -> None:
    random = random_candles(1, 500)
    candles = replace(random, open_time_ms=random.open_time_ms + 50 * 365 * Interval.D1.ms)  # 1970 is refused
    write_klines(klines_path(tmp_path, ETHER), candles)
    assert np.array_equal(read_recorded(tmp_path, [ETHER], Interval.H1)["eth_usdt"].close, candles.close)
    merged = read_recorded(tmp_path, [ETHER], Interval.H4)["eth_usdt"]
    assert np.array_equal(merged.close, resample(candles, Interval.H1, Interval.H4).close)
    with pytest.raises(InputError, match="has candles of 1h, not of 15m or shorter") as caught:
        read_recorded(tmp_path, [ETHER], Interval.M15)
    assert caught.value.field == "candles"


def test_a_file_without_klines_is_named(tmp_path: Path) -> None:
    klines_path(tmp_path, ETHER).write_bytes(b"no parquet")
    with pytest.raises(BadCandles, match=r"ETHUSDT\.parquet is not a table"):
        read_recorded(tmp_path, [ETHER], Interval.H4)


@pytest.mark.recorded("klines-15m", "klines-1h")
def test_recorded_quarters_of_an_hour_give_the_recorded_hours() -> None:
    pair = Pair("sol", "usdt")
    made = read_recorded(recorded("klines-15m"), [pair], Interval.H1)["sol_usdt"]
    hours = read_klines(klines_path(recorded("klines-1h"), pair), Interval.H1)
    _, left, right = np.intersect1d(made.open_time_ms, hours.open_time_ms, return_indices=True)
    assert len(left) > 15_000
    for name in ("open", "high", "low", "close"):
        np.testing.assert_allclose(getattr(made, name)[left], getattr(hours, name)[right], rtol=1e-6)
