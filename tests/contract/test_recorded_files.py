"""`make data` against the replay exchange: how it continues after a failure, and which files it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from make_us_rich.cli import app as mkrich
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import BITCOIN, Pair
from make_us_rich.core.settings import get_settings
from make_us_rich.market.exchange import ExchangeClient
from make_us_rich.market.recordings import digest, read_klines, write_klines
from tests.support.recorded_files import app

FIRST, END = "2024-01-05", "2024-03-05"  # 1,440 hours: two requests
FILES = {"BTCUSDT": BITCOIN, "ETHUSDT": Pair("eth", "usdt")}


@pytest.fixture
def exchange(exchange_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("MUR_EXCHANGE_URL", exchange_url)
    get_settings.cache_clear()
    yield exchange_url
    get_settings.cache_clear()
    httpx.delete(f"{exchange_url}/_control/faults").raise_for_status()


@pytest.fixture
def listed(exchange: str, tmp_path: Path) -> Path:
    """Write a list of the hours and of the days that the exchange has."""
    client = ExchangeClient(exchange)
    first_ms, end_ms = (int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000) for day in (FIRST, END))
    recordings = {
        folder: {
            "interval": interval,
            "first": FIRST,
            "end": END,
            "sha256": {name: digest(client.klines(pair, interval, first_ms, end_ms)) for name, pair in FILES.items()},
        }
        for folder, interval in (("hours", Interval.H1), ("days", Interval.D1))
    }
    path = tmp_path / "recorded.json"
    path.write_text(json.dumps(recordings))
    httpx.delete(f"{exchange}/_control/usage").raise_for_status()
    return path


def _make_data(listed: Path, out: Path) -> Result:
    return CliRunner().invoke(app, ["--listed", str(listed), "--out", str(out)])


def _requests(exchange: str) -> int:
    """Return how many requests the exchange has answered since the last call."""
    used = int(httpx.get(f"{exchange}/_control/usage").json()["requests"])
    httpx.delete(f"{exchange}/_control/usage").raise_for_status()
    return used


def test_after_a_failure_the_same_command_continues(exchange: str, listed: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    httpx.post(f"{exchange}/_control/faults", json={"kind": "500", "symbol": "ETHUSDT", "after": 1}).raise_for_status()
    failed = _make_data(listed, out)
    assert failed.exit_code == 1
    assert "failed with 500" in failed.output
    assert len(read_klines(out / "hours" / "ETHUSDT.parquet", Interval.H1)) == 1000
    httpx.delete(f"{exchange}/_control/faults").raise_for_status()

    done = _make_data(listed, out)

    assert done.exit_code == 0, done.output
    assert "hours: 2 of 2 files are as recorded" in done.output
    assert "days: 2 of 2 files are as recorded" in done.output
    assert "eth_usdt: 440 new" in done.output
    assert done.output.count("btc_usdt") == 1, "its hours are complete"
    _requests(exchange)
    assert _make_data(listed, out).exit_code == 0
    assert _requests(exchange) == 0


def test_a_changed_candle_is_refused_by_the_name_of_its_file(exchange: str, listed: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    assert _make_data(listed, out).exit_code == 0
    changed = out / "days" / "ETHUSDT.parquet"
    candles = read_klines(changed, Interval.D1)
    candles.close[7] = np.nextafter(candles.close[7], 0)
    write_klines(changed, candles)

    refused = _make_data(listed, out)

    assert refused.exit_code == 1
    assert f"{changed} does not hold the candles" in refused.output
    assert refused.output.count("does not hold") == 1
    changed.unlink()
    assert _make_data(listed, out).exit_code == 0


def test_candles_outside_the_listed_days_do_not_matter(exchange: str, listed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "hours"
    more = ["candles", "download", "--pairs", "btc_usdt", "--from", "2024-01-01", "--to", "2024-03-09"]
    assert CliRunner().invoke(mkrich, [*more, "--out", str(folder)]).exit_code == 0

    done = _make_data(listed, tmp_path / "data")

    assert done.exit_code == 0, done.output
    assert "btc_usdt: 60 new" in done.output  # the days alone


def test_candles_that_the_exchange_does_not_have_are_named_with_their_source(listed: Path, tmp_path: Path) -> None:
    recordings = json.loads(listed.read_text())
    recordings["days"]["source"] = "a file of the year 2018"
    listed.write_text(json.dumps(recordings))
    out = tmp_path / "data"

    done = _make_data(listed, out)

    assert done.exit_code == 0
    assert f"{out / 'days' / 'BTCUSDT.parquet'} is missing" in done.output
    assert "a file of the year 2018" in done.output
    assert not (out / "days").exists()
