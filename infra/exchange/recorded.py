"""Recorded klines, moved to the present by whole weeks, so that hours of the day and weekdays stay the same.

The shift is the smallest that puts the recording's end at least a week after the first start. Candles after the clock's
time are not served yet, so new candles appear for at least a week. A state file keeps the shift over restarts.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from make_us_rich.core.interval import HOUR_MS
from make_us_rich.market.candles import Candles

WEEK_MS = 7 * 24 * HOUR_MS
_COLUMNS = ("open_time", "open", "high", "low", "close", "volume")


class RecordingError(Exception):
    """The recording cannot be replayed; the message says what to do."""


def load(folder: Path, state: Path | None, now_ms: int) -> dict[str, Candles]:
    """Read the hourly klines of a folder by symbol, shifted to the present. Raises RecordingError."""
    folder = folder.resolve()
    candles_by_symbol = {path.stem: _read(path) for path in sorted(folder.glob("*.parquet"))}
    if not candles_by_symbol:
        raise RecordingError(
            f"{folder} holds no .parquet klines: name a folder with files like BTCUSDT.parquet, "
            "as `mkrich candles download` makes it"
        )
    end_ms = max(int(candles.open_time_ms[-1]) for candles in candles_by_symbol.values()) + HOUR_MS
    shift_ms = _shift_weeks(folder, state, end_ms, now_ms) * WEEK_MS
    if end_ms + shift_ms < now_ms:
        raise RecordingError(
            f"the recording in {folder} has been replayed to its end: start it anew with `make clean-stack`"
        )
    return {
        symbol: replace(candles, open_time_ms=candles.open_time_ms + shift_ms)
        for symbol, candles in candles_by_symbol.items()
    }


def _shift_weeks(folder: Path, state: Path | None, end_ms: int, now_ms: int) -> int:
    if state is not None and state.exists():
        saved = json.loads(state.read_text())
        if saved["folder"] != str(folder):
            raise RecordingError(
                f"this stack replays {saved['folder']}, not {folder}: start anew with `make clean-stack`"
            )
        return int(saved["shift_weeks"])
    weeks = -(-(now_ms + WEEK_MS - end_ms) // WEEK_MS)
    if state is not None:
        state.parent.mkdir(parents=True, exist_ok=True)
        state.write_text(json.dumps({"folder": str(folder), "shift_weeks": weeks}))
    return weeks


def _read(path: Path) -> Candles:
    table = pq.read_table(path)
    missing = [name for name in _COLUMNS if name not in table.column_names]
    if missing:
        raise RecordingError(f"{path} lacks the columns {', '.join(missing)}")
    times, *prices_and_volume = (table[name].to_numpy() for name in _COLUMNS)
    if times.dtype.kind == "M":
        times = times.astype("datetime64[ms]")
    return Candles(times.astype(np.int64), *(column.astype(np.float64) for column in prices_and_volume))
