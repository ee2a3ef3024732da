"""Recorded klines, moved to the present by whole weeks, so that hours of the day and weekdays stay the same.

The shift is the smallest that puts the recording's end at least a week after the first start. Candles after the clock's
time are not served yet, so new candles appear for at least a week. A state file keeps the shift over restarts.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from make_us_rich.core.errors import InputError
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.market.candles import Candles
from make_us_rich.market.recordings import read_resampled, require_recorded_files

WEEK_MS = 7 * 24 * HOUR_MS


class RecordingError(Exception):
    """The recording cannot be replayed; the message says what to do."""


def load(folder: Path, state: Path | None, now_ms: int) -> dict[str, Candles]:
    """Read a folder by symbol as hourly klines, shifted to the present. Raises RecordingError."""
    folder = folder.resolve()
    try:
        files = require_recorded_files(folder, bitcoin=False)
        candles_by_symbol = {pair.symbol: read_resampled(path, Interval.H1) for pair, path in files.items()}
    except InputError as error:
        raise RecordingError(str(error)) from None
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
        unfinished = state.with_suffix(".new")
        unfinished.write_text(json.dumps({"folder": str(folder), "shift_weeks": weeks}))
        unfinished.replace(state)
    return weeks
