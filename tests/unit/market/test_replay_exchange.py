"""The candles of the replay exchange: a recording shifted to the present, or a simulation from a seed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.exchange.klines import kline_rows
from infra.exchange.recorded import WEEK_MS, RecordingError, load
from infra.exchange.simulated import FIRST_MS, PROFILES, simulate
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.market.candles import Candles, clean
from tests.support.processes import PROJECT_ROOT

NOW_MS = 1_790_000_123_456  # a Monday in September 2026


def record(folder: Path, symbol: str, hours: int, **renamed: str) -> None:
    """Write a parquet file of klines that end on 2022-12-31."""
    end_ms = int(datetime(2023, 1, 1, tzinfo=UTC).timestamp() * 1000)
    price = np.linspace(10.0, 11.0, hours)
    columns = {"open_time": end_ms - HOUR_MS * np.arange(hours, 0, -1)}
    columns |= dict.fromkeys(("open", "high", "low", "close", "volume"), price)
    pq.write_table(
        pa.table({renamed.get(name, name): column for name, column in columns.items()}), folder / f"{symbol}.parquet"
    )


def same(one: Candles, other: Candles) -> bool:
    return all(np.array_equal(getattr(one, item.name), getattr(other, item.name)) for item in fields(Candles))


def test_a_recording_is_shifted_by_whole_weeks_and_lasts_one_or_two(tmp_path: Path) -> None:
    for symbol in PROFILES:
        record(tmp_path, symbol, 2000)

    markets = load(tmp_path, None, NOW_MS)

    assert set(markets) == set(PROFILES)
    original = pq.read_table(tmp_path / "BTCUSDT.parquet").column("open_time").to_numpy()
    moved = markets["BTCUSDT"].open_time_ms
    (shift_ms,) = set((moved - original).tolist())
    assert shift_ms % WEEK_MS == 0
    assert WEEK_MS <= int(moved[-1]) + HOUR_MS - NOW_MS < 2 * WEEK_MS


def test_a_restart_continues_the_same_recording(tmp_path: Path) -> None:
    record(tmp_path, "BTCUSDT", 100)
    state = tmp_path / "state" / "exchange.json"
    first = load(tmp_path, state, NOW_MS)["BTCUSDT"]

    later = load(tmp_path, state, NOW_MS + 6 * 24 * HOUR_MS)["BTCUSDT"]

    assert same(first, later)


def test_a_finished_recording_names_the_solution(tmp_path: Path) -> None:
    record(tmp_path, "BTCUSDT", 100)
    state = tmp_path / "exchange.json"
    load(tmp_path, state, NOW_MS)

    with pytest.raises(RecordingError, match="make clean-stack"):
        load(tmp_path, state, NOW_MS + 3 * WEEK_MS)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    record(tmp_path, "BTCUSDT", 100)
    state = tmp_path / "exchange.json"
    state.write_text(json.dumps({"folder": "/elsewhere", "shift_weeks": 1}))

    with pytest.raises(RecordingError, match="this stack replays /elsewhere"):
        load(tmp_path, state, NOW_MS)


def test_a_folder_without_klines_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"holds no \.parquet klines"):
        load(tmp_path, None, NOW_MS)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    record(tmp_path, "BTCUSDT", 100, volume="vol")

    with pytest.raises(RecordingError, match=r"BTCUSDT\.parquet lacks the columns volume"):
        load(tmp_path, None, NOW_MS)


def test_a_restart_or_another_list_of_pairs_changes_no_simulated_candle() -> None:
    first = simulate(NOW_MS, seed=3)
    later = simulate(NOW_MS + 30 * 24 * HOUR_MS, seed=3, additional=["DOTUSDT"])

    for symbol, candles in first.items():
        assert same(candles, later[symbol][: len(candles)])
    assert not same(first["BTCUSDT"], simulate(NOW_MS, seed=4)["BTCUSDT"])


def test_every_simulated_candle_is_valid() -> None:
    for symbol, candles in simulate(NOW_MS, additional=["DOTUSDT"]).items():
        kept, report = clean(candles, Interval.H1)
        assert len(kept) == len(candles), f"{symbol}: {report}"
        assert report.missing == 0
        assert candles.open_time_ms[0] == FIRST_MS
        assert candles.open_time_ms[-1] > NOW_MS + 59 * 24 * HOUR_MS


def test_simulated_prices_have_the_properties_of_real_ones() -> None:
    markets = simulate(NOW_MS)
    assert set(markets) == set(PROFILES)
    returns = {symbol: np.diff(np.log(candles.close)) for symbol, candles in markets.items()}
    hour = markets["BTCUSDT"].open_time_ms[1:] // HOUR_MS % 24
    for symbol, series in returns.items():
        size = np.abs(series)
        assert np.corrcoef(size[1:], size[:-1])[0, 1] > 0.1, f"{symbol}: volatility comes in spells"
        assert np.mean((series / series.std()) ** 4) > 5, f"{symbol}: the tails are heavy"
        assert size[hour == 15].mean() > 1.2 * size[hour == 3].mean(), f"{symbol}: hours differ"
        assert abs(np.corrcoef(series[1:], series[:-1])[0, 1]) < 0.05, f"{symbol}: no free lunch"
        assert np.corrcoef(series, returns["BTCUSDT"])[0, 1] > 0.4, f"{symbol}: follows BTC"


def test_the_open_candle_reveals_nothing_of_its_future() -> None:
    candles = simulate(NOW_MS)["BTCUSDT"]
    opened = NOW_MS - NOW_MS % HOUR_MS

    (early,) = kline_rows(candles, Interval.H1, opened, None, 1, opened + 1)
    (late,) = kline_rows(candles, Interval.H1, opened, None, 1, opened + HOUR_MS)

    assert float(early[4]) == pytest.approx(float(early[1]), rel=1e-5)
    assert float(early[2]) - float(early[3]) < 1e-5 * float(early[1])
    assert float(late[2]) > float(early[2])
    assert kline_rows(candles, Interval.H1, opened + HOUR_MS, None, 1, opened + 1) == []


def test_without_a_start_the_newest_rows_are_returned() -> None:
    candles = simulate(NOW_MS)["BTCUSDT"]

    rows = kline_rows(candles, "1d", None, None, 3, NOW_MS)

    day_ms = 24 * HOUR_MS
    today = NOW_MS - NOW_MS % day_ms
    assert [row[0] for row in rows] == [today - 2 * day_ms, today - day_ms, today]


def test_the_replay_exchange_needs_none_of_what_its_clients_do() -> None:
    """Its container and its memory stay small."""
    imported = (
        "import sys, infra.exchange.__main__; print(*{'binance', 'minio', 'requests', 'pandas'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", imported], capture_output=True, text=True, check=True, cwd=PROJECT_ROOT
    )

    assert done.stdout.split() == []


@pytest.mark.parametrize("price", [4.1e-7, 3e-11, 97_000.0])
def test_a_price_of_any_size_keeps_its_digits(price: float) -> None:
    row = np.array([price])
    candles = Candles(np.array([NOW_MS - NOW_MS % HOUR_MS - HOUR_MS]), row, row, row, row, np.ones(1))

    (served,) = kline_rows(candles, Interval.H1, None, None, 1, NOW_MS)

    assert float(served[4]) == pytest.approx(price, rel=1e-7)
