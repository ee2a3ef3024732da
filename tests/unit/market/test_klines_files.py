"""Files of klines as other tools write them: each is read right, or refused by its name, whoever reads it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.exchange.recorded import RecordingError, load
from make_us_rich.core.errors import BadCandles, InputError
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN, Pair, parse_symbol
from make_us_rich.embedded.stack_config import new_stack_config
from make_us_rich.market.recordings import Download, read_klines, read_recorded, recorded_pairs

FIRST_MS = 1_735_689_600_000  # 2025-01-01
NOW_MS = 1_790_000_123_456
ROWS = 200

Frame = pd.DataFrame


def klines(rows: int = ROWS, step_ms: int = HOUR_MS, first_ms: int = FIRST_MS) -> Frame:
    close = 100 + np.sin(np.arange(rows))
    times = first_ms + step_ms * np.arange(rows, dtype=np.int64)
    return Frame(
        {"open_time": times, "open": close, "high": close + 1, "low": close - 1, "close": close, "volume": 5.0}
    )


def write(folder: Path, frame: Frame, name: str = "BTCUSDT.parquet") -> Path:
    folder.mkdir(exist_ok=True)
    frame.to_parquet(folder / name)
    return folder / name


def times(change: Callable[[pd.Series], object]) -> Callable[[Frame], Frame]:
    return lambda frame: frame.assign(open_time=change(frame["open_time"]))


def first_rows(frame: Frame, change: Callable[[Frame], Frame]) -> Frame:
    """Change the first half alone."""
    return pd.concat([change(frame[: ROWS // 2]), frame[ROWS // 2 :]])


READ = {
    "seconds": times(lambda time: time // 1000),
    "microseconds": times(lambda time: time * 1000),
    "nanoseconds": times(lambda time: time * 1_000_000),
    "floating point": times(lambda time: time.astype(float)),
    "timestamps": times(lambda time: pd.to_datetime(time, unit="ms")),
    "timestamps of another zone": times(
        lambda time: pd.to_datetime(time, unit="ms", utc=True).dt.tz_convert("Asia/Tokyo")
    ),
    "timestamps as the index": lambda frame: frame.assign(
        open_time=pd.to_datetime(frame["open_time"], unit="ms").astype("datetime64[s]")
    ).set_index("open_time"),
    "newest first": lambda frame: frame[::-1],
    "shuffled": lambda frame: frame.sample(frac=1, random_state=1),
    "repeats": lambda frame: pd.concat([frame, frame[-50:]]),
    "numbers as text": lambda frame: frame.astype({"close": str, "volume": str}),
    "columns in another case": lambda frame: frame.rename(columns={"open_time": "Open time", "close": "Close"}),
    "further columns": lambda frame: frame.assign(trades=7, close_time=frame["open_time"] + HOUR_MS - 1),
}


@pytest.mark.parametrize("form", READ)
def test_what_is_certain_is_read(tmp_path: Path, form: str) -> None:
    wanted = klines()
    path = write(tmp_path, READ[form](wanted))

    candles = read_klines(path, Interval.H1)

    np.testing.assert_array_equal(candles.open_time_ms, wanted["open_time"])
    np.testing.assert_array_equal(candles.close, wanted["close"])
    replayed = load(tmp_path, None, NOW_MS)["BTCUSDT"]
    assert set(np.diff(replayed.open_time_ms)) == {HOUR_MS}
    np.testing.assert_array_equal(replayed.close, wanted["close"])


REFUSED: dict[str, tuple[Callable[[Frame], Frame], str]] = {
    "two units": (
        lambda frame: first_rows(frame, times(lambda time: time // 1000)),
        "has 100 times in seconds and 100 times in milliseconds",
    ),
    "the dumps of 2024 and 2025": (
        lambda frame: first_rows(frame, times(lambda time: time * 1000)),
        "has 100 times in milliseconds and 100 times in microseconds",
    ),
    "days": (lambda _: klines(step_ms=24 * HOUR_MS), "has candles of 1d, not of 1h"),
    "weeks": (lambda _: klines(step_ms=168 * HOUR_MS), "has candles of 7d"),
    "minutes": (lambda _: klines(step_ms=60_000), "has candles of 1m"),
    "quarters among hours": (
        lambda frame: pd.concat([frame, klines(40, HOUR_MS // 4, FIRST_MS + ROWS * HOUR_MS)]),
        "has candles of 1h and 30 rows of a shorter interval, such as that of 2025-01-09 08:15",
    ),
    "hours among quarters": (
        lambda frame: pd.concat([frame[:50], klines(ROWS, HOUR_MS // 4, FIRST_MS + 50 * HOUR_MS)]),
        "has candles of 15m and of 1h",
    ),
    "two different rows of a time": (
        lambda frame: pd.concat([frame, frame[-1:].assign(close=7.0)]),
        "has two rows of 2025-01-09 07:00 UTC that differ in close",
    ),
    "close times": (times(lambda time: time + HOUR_MS - 1), "open_time must be when a candle opens"),
    "a shifted clock": (times(lambda time: time + HOUR_MS // 2), "open_time must be when a candle opens"),
    "milliseconds read as nanoseconds": (times(pd.to_datetime), "has the timestamp 1970-01-01"),
    "zero": (times(lambda time: time.where(time > FIRST_MS, 0)), "has the open_time 0"),
    "no time": (times(lambda time: time.where(time > FIRST_MS)), "has 1 rows without open_time"),
    "words": (times(lambda time: pd.to_datetime(time, unit="ms").dt.strftime("%c")), "has times of the type"),
    "another name": (lambda frame: frame.rename(columns={"open_time": "date"}), "lacks the columns open_time"),
    "a name twice": (lambda frame: frame.assign(Close=1.0), "has the columns 'close' and 'Close'"),
    "words as prices": (lambda frame: frame.assign(close="dear"), "something else than numbers in the column close"),
    "no prices": (lambda frame: frame.assign(close=np.nan), "rejected 200 without a finite positive price"),
    "no rows": (lambda frame: frame[:0], "has no rows"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_guessed_is_refused_by_every_reader_and_never_overwritten(tmp_path: Path, case: str) -> None:
    change, seen = REFUSED[case]
    path = write(tmp_path, change(klines()))
    before = path.read_bytes()

    for read in (
        lambda: read_klines(path, Interval.H1),
        lambda: Download(BITCOIN, Interval.H1, FIRST_MS, FIRST_MS + HOUR_MS, tmp_path),
    ):
        with pytest.raises(BadCandles, match=r"BTCUSDT\.parquet") as caught:
            read()
        assert seen in str(caught.value)
    with pytest.raises(RecordingError, match=r"BTCUSDT\.parquet"):
        load(tmp_path, None, NOW_MS)
    with pytest.raises(InputError, match=r"BTCUSDT\.parquet"):
        new_stack_config("recorded", tmp_path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("size", [0, 3, 500])
def test_a_torn_file_is_refused(tmp_path: Path, size: int) -> None:
    path = write(tmp_path, klines())
    os.truncate(path, size)
    for read in (
        lambda: read_klines(path, Interval.H1),
        lambda: Download(BITCOIN, Interval.H1, FIRST_MS, FIRST_MS + HOUR_MS, tmp_path),
    ):
        with pytest.raises(BadCandles, match=r"BTCUSDT\.parquet is not a table of klines, or is torn"):
            read()
    assert path.stat().st_size == size


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (lambda frame: frame.assign(close=frame["close"].where(frame.index != 7)), "1 without a finite positive price"),
        (lambda frame: frame.assign(high=frame["high"].where(frame.index != 7, np.inf)), "1 without a finite positive"),
        (lambda frame: frame.assign(volume=frame["volume"].where(frame.index != 7, -1)), "1 without a volume"),
    ],
)
def test_an_impossible_row_is_left_out_with_a_warning_and_stops_a_download(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: Callable[[Frame], Frame], seen: str
) -> None:
    path = write(tmp_path, change(klines()))

    assert len(read_klines(path, Interval.H1)) == ROWS - 1
    assert f"BTCUSDT.parquet: {ROWS - 1} candles" in caplog.text
    assert seen in caplog.text
    assert len(load(tmp_path, None, NOW_MS)["BTCUSDT"]) == ROWS - 1
    with pytest.raises(BadCandles, match=r"rows that a download would delete: .*choose another folder") as caught:
        Download(BITCOIN, Interval.H1, FIRST_MS, FIRST_MS + HOUR_MS, tmp_path)
    assert caught.value.field == "out"


def test_a_download_does_not_drop_columns(tmp_path: Path) -> None:
    write(tmp_path, klines().assign(trades=7))

    with pytest.raises(BadCandles, match="columns that a download would delete: trades: choose another folder"):
        Download(BITCOIN, Interval.H1, FIRST_MS, FIRST_MS + HOUR_MS, tmp_path)


def test_a_download_continues_a_file_in_another_unit_and_by_another_name(tmp_path: Path) -> None:
    write(tmp_path, times(lambda time: time * 1000)(klines()), "btc_usdt.parquet")

    missing = Download(BITCOIN, Interval.H1, FIRST_MS, FIRST_MS + (ROWS + 3) * HOUR_MS, tmp_path).missing

    assert missing.tolist() == [FIRST_MS + row * HOUR_MS for row in range(ROWS, ROWS + 3)]


def test_shorter_candles_are_replayed_as_hours(tmp_path: Path) -> None:
    write(tmp_path, klines(400, HOUR_MS // 4))

    replayed = load(tmp_path, None, NOW_MS)["BTCUSDT"]

    assert len(replayed) == 100
    assert set(np.diff(replayed.open_time_ms)) == {HOUR_MS}


@pytest.mark.parametrize(
    "name", ["BTCUSDT.parquet", "btcusdt.parquet", "BTC_USDT.parquet", "btc-usdt.parquet", "BTCUSDT.PARQUET"]
)
def test_a_name_in_another_spelling_is_the_same_pair(tmp_path: Path, name: str) -> None:
    write(tmp_path, klines(), name)

    assert recorded_pairs(tmp_path) == [BITCOIN]
    assert len(read_recorded(tmp_path, [BITCOIN], Interval.H1)["btc_usdt"]) == ROWS
    assert list(load(tmp_path, None, NOW_MS)) == ["BTCUSDT"]


@pytest.mark.parametrize(
    "name",
    [
        "BTCUSDT (1).parquet", "BTCUSDT-1h-2024-01.parquet", "BTCUSDT_1h.parquet", "BTCUSDT.snappy.parquet",
        ".BTCUSDT.parquet", "README.parquet", "USDT.parquet", "BNBUSD.parquet",
    ],
)  # fmt: skip
def test_a_name_of_no_pair_is_skipped_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    write(tmp_path, klines(), name)
    write(tmp_path, klines())

    assert recorded_pairs(tmp_path) == [BITCOIN]
    assert list(load(tmp_path, None, NOW_MS)) == ["BTCUSDT"]
    assert name in caplog.text


def test_two_files_of_a_pair_are_refused(tmp_path: Path) -> None:
    for name in ("BTCUSDT.parquet", "btc_usdt.parquet"):
        write(tmp_path, klines(), name)

    for read in (recorded_pairs, lambda folder: read_recorded(folder, [BITCOIN], Interval.H1)):
        with pytest.raises(BadCandles, match=r"two files of btc_usdt, BTCUSDT.parquet and btc_usdt.parquet"):
            read(tmp_path)


@pytest.mark.parametrize(
    ("symbol", "pair"),
    [
        ("BTCFDUSD", "btc_fdusd"), ("BTCTUSD", "btc_tusd"), ("ETHBTC", "eth_btc"), ("USDTTRY", "usdt_try"),
        ("EURUSDT", "eur_usdt"), ("BTCUSD1", "btc_usd1"), ("1000SATSUSDT", "1000sats_usdt"), ("BTC_U", "btc_u"),
        ("SOLBNB", "sol_bnb"), ("BTCJPY", "btc_jpy"), ("BTC/EUR", "btc_eur"),
    ],
)  # fmt: skip
def test_quotes_of_the_exchange_are_told_from_the_base(symbol: str, pair: str) -> None:
    assert parse_symbol(symbol) == pair


def test_the_demo_refuses_a_recording_without_bitcoin(tmp_path: Path) -> None:
    write(tmp_path, klines(), "ETHUSDT.parquet")
    with pytest.raises(InputError, match="has klines of eth_usdt, but not of bitcoin, which every model reads: add"):
        new_stack_config("recorded", tmp_path)


def test_a_folder_of_other_files_is_refused_with_their_names(tmp_path: Path) -> None:
    (tmp_path / "BTCUSDT-1h-2025-01.zip").touch()
    with pytest.raises(InputError, match=r"holds no .parquet klines \(it has BTCUSDT-1h-2025-01.zip\)"):
        new_stack_config("recorded", tmp_path)


def test_one_candle_is_of_the_expected_interval(tmp_path: Path) -> None:
    path = write(tmp_path, klines(1))
    assert len(read_klines(path, Interval.H4)) == 1


def test_dates_and_decimals_are_read(tmp_path: Path) -> None:
    table = pa.Table.from_pandas(klines(30, 24 * HOUR_MS))
    days = table["open_time"].cast(pa.timestamp("ms")).cast(pa.date32())
    table = table.set_column(0, "open_time", days).set_column(4, "close", table["close"].cast(pa.decimal128(38, 18)))
    pq.write_table(table, tmp_path / "BTCUSDT.parquet")

    assert len(read_recorded(tmp_path, [BITCOIN], Interval.D1)["btc_usdt"]) == 30


def test_a_missing_pair_is_named_with_what_the_folder_has(tmp_path: Path) -> None:
    write(tmp_path, klines())
    with pytest.raises(InputError, match="has no klines of eth_usdt, it has btc_usdt: download them by"):
        read_recorded(tmp_path, [Pair("eth", "usdt")], Interval.H1)
