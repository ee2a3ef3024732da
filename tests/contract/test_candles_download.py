"""`mkrich candles download` against the replay exchange: its files, and how it continues after an interruption."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from infra.exchange.recorded import load
from make_us_rich.cli import app
from make_us_rich.core.errors import InputError, LocationRefused, MarketUnavailable, PairNotTraded, RateLimited
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN, Pair
from make_us_rich.core.settings import get_settings
from make_us_rich.embedded.stack_config import StackConfig
from make_us_rich.market.exchange import ExchangeClient
from make_us_rich.market.recordings import read_recorded
from tests.support.processes import PROJECT_ROOT

pytestmark = pytest.mark.usefixtures("quick_retries")

ETHER = Pair("eth", "usdt")
FROM, TO, HOURS = "2024-01-05", "2024-07-05", 182 * 24
FIRST_MS = 1_704_412_800_000  # FROM


@pytest.fixture
def exchange(exchange_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("MUR_EXCHANGE_URL", exchange_url)
    get_settings.cache_clear()
    yield exchange_url
    get_settings.cache_clear()
    httpx.delete(f"{exchange_url}/_control/faults").raise_for_status()
    httpx.post(f"{exchange_url}/_control/clock", json={"offset_ms": 0, "speed": 1}).raise_for_status()


def set_fault(exchange: str, **fault: object) -> None:
    httpx.post(f"{exchange}/_control/faults", json=fault).raise_for_status()


def words(folder: Path, pairs: str = "btc_usdt,eth_usdt", start: str = FROM, end: str = TO) -> list[str]:
    return ["candles", "download", "--pairs", pairs, "--from", start, "--to", end, "--out", str(folder)]


def download(*arguments: str) -> Result:
    """Run the command; raise the error that it raised."""
    done = CliRunner().invoke(app, list(arguments))
    if isinstance(done.exception, Exception) and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def new_candles(output: str) -> dict[str, int]:
    return {pair: int(count) for pair, count in re.findall(r"(\w+): (\d+) new", output)}


def test_files_can_be_read_by_benchmarks_and_the_replay_exchange(exchange: str, tmp_path: Path) -> None:
    output = download(*words(tmp_path)).output

    assert new_candles(output) == {"btc_usdt": HOURS, "eth_usdt": HOURS}
    assert pq.read_schema(tmp_path / "BTCUSDT.parquet").names == [
        "open_time", "open", "high", "low", "close", "volume",
    ]  # fmt: skip
    theirs = ExchangeClient(exchange).klines(ETHER, Interval.H1, FIRST_MS, FIRST_MS + HOURS * HOUR_MS)
    read = read_recorded(tmp_path, [BITCOIN, ETHER], Interval.H1)["eth_usdt"]
    np.testing.assert_array_equal(read.open_time_ms, theirs.open_time_ms)
    np.testing.assert_array_equal(read.close, theirs.close)
    replayed = load(tmp_path, None, time.time_ns() // 1_000_000)["ETHUSDT"]
    np.testing.assert_array_equal(replayed.close, theirs.close)
    assert new_candles(download(*words(tmp_path)).output) == {"btc_usdt": 0, "eth_usdt": 0}


def test_candles_of_another_interval_go_to_another_folder(exchange: str, tmp_path: Path) -> None:
    hours, longer = tmp_path / "hours", tmp_path / "longer"
    download(*words(hours, "btc_usdt"))

    assert new_candles(download(*words(longer, "btc_usdt"), "--interval", "4h").output) == {"btc_usdt": HOURS // 4}
    ours = read_recorded(longer, [BITCOIN], Interval.H4)["btc_usdt"]
    np.testing.assert_array_equal(ours.close, read_recorded(hours, [BITCOIN], Interval.H4)["btc_usdt"].close)
    with pytest.raises(InputError, match=r"BTCUSDT\.parquet has candles of 1h, not of 4h: choose another folder"):
        download(*words(hours, "btc_usdt"), "--interval", "4h")


def test_the_exchange_of_the_settings_is_used_not_that_of_a_simulated_stack(
    exchange: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a benchmark would run on simulated prices after `make demo`."""
    monkeypatch.setenv("MUR_STACK_HOME", str(tmp_path / "stack"))
    monkeypatch.delenv("MUR_DATABASE_URL", raising=False)
    config = StackConfig("simulated", tmp_path / "stack" / "simulated")
    config.state.mkdir(parents=True)
    config.save()

    output = download(*words(tmp_path, "btc_usdt")).output

    assert f"from {exchange}" in output
    assert new_candles(output) == {"btc_usdt": HOURS}


def test_more_days_are_added_on_both_sides(exchange: str, tmp_path: Path) -> None:
    download(*words(tmp_path, "btc_usdt", "2024-03-01", "2024-04-01"))

    assert new_candles(download(*words(tmp_path, "btc_usdt")).output) == {"btc_usdt": HOURS - 31 * 24}
    times = read_recorded(tmp_path, [BITCOIN], Interval.H1)["btc_usdt"].open_time_ms
    assert set(np.diff(times)) == {HOUR_MS}


def test_a_failure_keeps_received_candles_and_the_same_command_continues(exchange: str, tmp_path: Path) -> None:
    set_fault(exchange, kind="500", symbol="ETHUSDT", after=2)
    with pytest.raises(MarketUnavailable, match="failed with 500"):
        download(*words(tmp_path))
    httpx.delete(f"{exchange}/_control/faults").raise_for_status()
    assert len(read_recorded(tmp_path, [ETHER], Interval.H1)["eth_usdt"]) == 2000

    assert new_candles(download(*words(tmp_path)).output) == {"btc_usdt": 0, "eth_usdt": HOURS - 2000}
    candles = read_recorded(tmp_path, [ETHER], Interval.H1)["eth_usdt"]
    theirs = ExchangeClient(exchange).klines(ETHER, Interval.H1, FIRST_MS, FIRST_MS + HOURS * HOUR_MS)
    np.testing.assert_array_equal(candles.close, theirs.close)


def test_an_interruption_keeps_received_candles(exchange: str, tmp_path: Path) -> None:
    """Ctrl-C while the exchange does not respond."""
    set_fault(exchange, kind="timeout", symbol="BTCUSDT", after=3)
    command = [sys.executable, "-m", "make_us_rich.cli", *words(tmp_path, "btc_usdt")]
    with subprocess.Popen(
        command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True, preexec_fn=_take_interrupts
    ) as running:
        _wait_until_waiting(exchange)
        running.send_signal(signal.SIGINT)
        output, _ = running.communicate(timeout=30)

    assert running.returncode == 130
    assert "the same command continues" in output
    assert len(read_recorded(tmp_path, [BITCOIN], Interval.H1)["btc_usdt"]) == 3000
    httpx.delete(f"{exchange}/_control/faults").raise_for_status()
    assert new_candles(download(*words(tmp_path, "btc_usdt")).output) == {"btc_usdt": HOURS - 3000}


def _take_interrupts() -> None:
    """Restore the default of SIGINT, which processes that a shell starts in the background ignore."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _wait_until_waiting(exchange: str) -> None:
    """Wait until the three requests before the timeout fault have passed, and a second longer."""
    deadline = time.monotonic() + 60
    while httpx.get(f"{exchange}/_control/faults").json()[0]["after"] > 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(1)


def test_a_gap_is_requested_again(exchange: str, tmp_path: Path) -> None:
    set_fault(exchange, kind="gap", symbol="BTCUSDT", times=1)

    assert "1 missing in gaps" in download(*words(tmp_path, "btc_usdt")).output
    assert new_candles(download(*words(tmp_path, "btc_usdt")).output) == {"btc_usdt": 1}


def test_corrupt_rows_are_rejected_and_reported(exchange: str, tmp_path: Path) -> None:
    set_fault(exchange, kind="offgrid", symbol="BTCUSDT", times=1)

    assert "rejected 1 off the grid" in download(*words(tmp_path, "btc_usdt")).output


def test_it_ends_with_the_newest_closed_candle(exchange: str, tmp_path: Path) -> None:
    before_ms = int(httpx.get(f"{exchange}/api/v3/time").json()["serverTime"])
    download(*words(tmp_path, "btc_usdt", end="2199-01-01"))

    newest_ms = int(read_recorded(tmp_path, [BITCOIN], Interval.H1)["btc_usdt"].open_time_ms[-1]) + HOUR_MS
    assert before_ms - HOUR_MS < newest_ms <= time.time() * 1000


@pytest.mark.parametrize(
    ("arguments", "error", "reason"),
    [
        (("--pairs", "BTCUSDT"), InputError, "not a pair"),
        (("--from", "2024-08-01"), InputError, "move them apart"),
        (("--from", "2199-01-01", "--to", "2199-02-01"), InputError, "move them apart"),
        (("--from", "2019-01-01", "--to", "2019-02-01"), InputError, "no candle of btc_usdt"),
        (("--pairs", "nope_usdt"), PairNotTraded, "does not know nope_usdt"),
        (("--interval", "7h"), InputError, "unknown interval '7h'"),
    ],
)
def test_impossible_downloads_are_refused_with_the_reason(
    exchange: str, tmp_path: Path, arguments: tuple[str, ...], error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        download(*words(tmp_path), *arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_refused_location_is_reported_at_once(exchange: str, tmp_path: Path) -> None:
    set_fault(exchange, kind="451")

    with pytest.raises(LocationRefused, match="MUR_EXCHANGE_URL"):
        download(*words(tmp_path))


@pytest.mark.parametrize("arguments", [[], ["--cost"]])
def test_a_benchmark_without_candles_names_the_command_that_downloads_them(
    exchange: str, tmp_path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.forecast import main as benchmark  # imports PyTorch and Matplotlib

    folder = tmp_path / "candles"
    monkeypatch.setenv("CANDLES", str(folder))
    monkeypatch.setattr("sys.argv", ["benchmarks.forecast", *arguments])
    with pytest.raises(SystemExit) as ended:
        benchmark()

    (command,) = [line.strip() for line in str(ended.value).splitlines() if "mkrich candles download" in line]
    program, *arguments = shlex.split(command)
    assert program == ".venv/bin/mkrich"
    # the simulated market begins in 2024
    assert download(*arguments, "--from", "2024-02-01", "--to", "2024-02-03").exit_code == 0
    assert {"BTCUSDT.parquet", "ETHUSDT.parquet"} <= {path.name for path in folder.iterdir()}


def test_a_limit_is_waited_for_up_to_five_minutes(exchange: str, tmp_path: Path) -> None:
    set_fault(exchange, kind="429", symbol="BTCUSDT", times=1, retry_after_s=0.5)
    began = time.monotonic()
    download(*words(tmp_path, "btc_usdt"))
    assert time.monotonic() - began >= 0.5

    set_fault(exchange, kind="418", symbol="ETHUSDT", retry_after_s=7200)
    with pytest.raises(RateLimited, match="7200 s"):
        download(*words(tmp_path, "eth_usdt"))


def test_requests_pause_when_the_weight_is_nearly_used_up(
    exchange: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other clients used most of the weight of this minute."""
    httpx.post(f"{exchange}/_control/clock", json={"speed": 0}).raise_for_status()  # it stays in one minute
    with httpx.Client(base_url=exchange) as others:
        for _ in range(271):
            others.get("/api/v3/exchangeInfo").raise_for_status()  # a weight of 20 each
    rests: list[float] = []
    monkeypatch.setattr("make_us_rich.market.exchange.time.sleep", rests.append)

    download(*words(tmp_path, "btc_usdt"))

    assert rests, "the used weight was ignored"
    assert all(0 < rest_s <= 60 for rest_s in rests)
