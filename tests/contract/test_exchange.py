"""The exchange client against the replay exchange, a real server: its responses, and every kind of fault."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from infra.exchange.simulated import FIRST_MS, simulate
from make_us_rich.core.errors import LocationRefused, MarketError, MarketUnavailable, PairNotTraded, RateLimited
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN, Pair
from make_us_rich.market.candles import Candles, clean
from make_us_rich.market.exchange import ExchangeClient
from make_us_rich.market.recordings import klines_path, write_klines
from tests.support.processes import PROJECT_ROOT, free_port, running
from tests.support.servers import exchange_server

pytestmark = pytest.mark.usefixtures("quick_retries")

CHZ = Pair("chz", "usdt")
BTC_KLINES = {"symbol": "BTCUSDT", "interval": "1h"}


class Exchange:
    def __init__(self, url: str) -> None:
        self.url = url
        self.client = ExchangeClient(url)

    def now_ms(self) -> int:
        return int(self.get("/api/v3/time").json()["serverTime"])

    def get(self, path: str, **query: Any) -> httpx.Response:
        return httpx.get(self.url + path, params=query)

    def set_fault(self, **fault: Any) -> None:
        httpx.post(f"{self.url}/_control/faults", json=fault).raise_for_status()

    def set_clock(self, **change: Any) -> None:
        httpx.post(f"{self.url}/_control/clock", json=change).raise_for_status()

    def hours(self, count: int, pair: Pair = BITCOIN) -> Candles:
        """Fetch the newest closed candles."""
        end_ms = Interval.H1.last_close_ms(self.now_ms())
        return self.client.klines(pair, Interval.H1, end_ms - count * HOUR_MS, end_ms)


@pytest.fixture
def exchange(exchange_url: str, now_ms: int) -> Iterator[Exchange]:
    yield Exchange(exchange_url)
    httpx.delete(f"{exchange_url}/_control/faults").raise_for_status()


def test_klines_have_binances_format(exchange: Exchange) -> None:
    response = exchange.get("/api/v3/klines", **BTC_KLINES, limit=3)

    *_, row = response.json()
    assert [type(cell) for cell in row] == [int, *[str] * 5, int, str, int, str, str, str]
    assert row[6] == row[0] + HOUR_MS - 1
    assert int(response.headers["X-MBX-USED-WEIGHT-1M"]) >= 2


def test_a_response_has_at_most_1000_rows_and_ends_with_the_open_candle(exchange: Exchange) -> None:
    rows = exchange.get("/api/v3/klines", **BTC_KLINES, limit=5000).json()

    assert len(rows) == 1000
    assert rows[-1][0] <= exchange.now_ms() < rows[-1][6]


def test_rows_are_limited_to_start_and_end_time(exchange: Exchange) -> None:
    start = Interval.H1.last_close_ms(exchange.now_ms()) - 10 * HOUR_MS
    rows = exchange.get("/api/v3/klines", **BTC_KLINES, startTime=start, endTime=start + 4 * HOUR_MS, limit=3).json()

    assert [row[0] for row in rows] == [start, start + HOUR_MS, start + 2 * HOUR_MS]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"symbol": "NOPEUSDT", "interval": "1h"}, -1121),
        ({"symbol": "BTCUSDT", "interval": "7h"}, -1120),
        ({"symbol": "BTCUSDT"}, -1102),
        ({**BTC_KLINES, "startTime": "yesterday"}, -1100),
        ({**BTC_KLINES, "limit": 0}, -1130),
    ],
)
def test_invalid_requests_get_binances_error_codes(exchange: Exchange, query: dict[str, Any], code: int) -> None:
    response = exchange.get("/api/v3/klines", **query)

    assert response.status_code == 400
    assert response.json()["code"] == code


def test_prices_are_labelled_simulated(exchange: Exchange) -> None:
    assert "SIMULATED" in exchange.get("/").text
    assert exchange.get("/api/v3/exchangeInfo").json()["label"] == "SIMULATED"


def test_a_long_history_is_paged_without_gaps(exchange: Exchange) -> None:
    candles = exchange.hours(3500)

    assert len(candles) == 3500
    assert set(np.diff(candles.open_time_ms)) == {HOUR_MS}


def test_four_hour_candles_aggregate_their_hours(exchange: Exchange) -> None:
    end_ms = Interval.H4.last_close_ms(exchange.now_ms())
    four = exchange.client.klines(BITCOIN, Interval.H4, end_ms - 4 * HOUR_MS, end_ms)
    hours = exchange.client.klines(BITCOIN, Interval.H1, end_ms - 4 * HOUR_MS, end_ms)

    assert four.high[0] == max(hours.high)
    assert four.close[0] == hours.close[-1]
    assert four.volume[0] == pytest.approx(sum(hours.volume))


def test_the_open_candle_is_excluded(exchange: Exchange) -> None:
    now_ms = exchange.now_ms()

    candles = exchange.client.klines(BITCOIN, Interval.H1, now_ms - 5 * HOUR_MS, now_ms + HOUR_MS)

    assert int(candles.open_time_ms[-1]) + HOUR_MS <= exchange.now_ms()


def test_closed_is_decided_by_the_exchange_clock(exchange: Exchange) -> None:
    end_ms = Interval.H1.last_close_ms(exchange.now_ms())
    exchange.set_fault(kind="clock_skew", skew_ms=end_ms - exchange.now_ms() - 60_000)

    candles = exchange.client.klines(BITCOIN, Interval.H1, end_ms - 5 * HOUR_MS, end_ms)

    assert int(candles.open_time_ms[-1]) == end_ms - 2 * HOUR_MS


def test_a_candle_past_the_end_is_excluded(exchange: Exchange) -> None:
    exchange.set_fault(kind="open_last_candle")

    candles = exchange.hours(5)

    assert len(candles) == 5


def test_traded_pairs_exclude_halted_pairs(exchange: Exchange) -> None:
    assert {"BTCUSDT", "CHZUSDT"} <= exchange.client.traded_pairs()
    exchange.set_fault(symbol="CHZUSDT", kind="halt")

    assert "CHZUSDT" not in exchange.client.traded_pairs()
    assert "BTCUSDT" in exchange.client.traded_pairs()


@pytest.mark.parametrize("kind", ["500", "truncated", "html"])
def test_transient_errors_are_retried(exchange: Exchange, kind: str) -> None:
    exchange.set_fault(kind=kind, symbol="BTCUSDT", times=2)

    assert len(exchange.hours(5)) == 5


@pytest.mark.parametrize(
    ("kind", "reason"), [("500", "failed with 500"), ("truncated", "not JSON"), ("html", "not JSON")]
)
def test_persistent_errors_are_raised_with_the_reason(exchange: Exchange, kind: str, reason: str) -> None:
    exchange.set_fault(kind=kind, symbol="BTCUSDT")

    with pytest.raises(MarketUnavailable, match=reason):
        exchange.hours(5)
    assert len(exchange.hours(5, CHZ)) == 5


def test_an_exchange_that_never_responds_times_out(exchange: Exchange) -> None:
    exchange.set_fault(kind="timeout", symbol="BTCUSDT")
    impatient = ExchangeClient(exchange.url, timeout_s=0.3)
    now_ms = exchange.now_ms()

    with pytest.raises(MarketUnavailable, match="cannot be reached: ReadTimeout"):
        impatient.klines(BITCOIN, Interval.H1, now_ms - 5 * HOUR_MS, now_ms)


def test_an_unreachable_exchange_is_reported() -> None:
    with pytest.raises(MarketUnavailable, match="cannot be reached: ConnectionError"):
        ExchangeClient(f"http://127.0.0.1:{free_port()}").server_time_ms()


@pytest.mark.parametrize("kind", ["429", "418"])
def test_retry_after_is_honoured(exchange: Exchange, kind: str) -> None:
    exchange.set_fault(kind=kind, symbol="BTCUSDT", times=1, retry_after_s=0.5)
    began = time.monotonic()

    assert len(exchange.hours(5)) == 5
    assert time.monotonic() - began >= 0.5


@pytest.mark.parametrize("kind", ["429", "418"])
def test_a_long_ban_is_raised_instead_of_waited_for(exchange: Exchange, kind: str) -> None:
    exchange.set_fault(kind=kind, symbol="BTCUSDT", retry_after_s=120)
    began = time.monotonic()

    with pytest.raises(RateLimited, match=kind) as caught:
        exchange.hours(5)
    assert caught.value.retry_after_s == 120
    assert time.monotonic() - began < 60


def test_a_refused_location_is_reported_with_the_solution(exchange: Exchange) -> None:
    now_ms = exchange.now_ms()
    exchange.set_fault(kind="451", times=1)  # a second request would be answered

    with pytest.raises(LocationRefused, match=r"HTTP 451.+MUR_EXCHANGE_URL=https://data-api\.binance\.vision"):
        exchange.client.klines(BITCOIN, Interval.H1, now_ms - 5 * HOUR_MS, now_ms)


def test_an_unknown_pair_is_named(exchange: Exchange) -> None:
    with pytest.raises(PairNotTraded, match="does not know nope_usdt"):
        exchange.hours(5, Pair("nope", "usdt"))

    exchange.set_fault(symbol="CHZUSDT", kind="unknown_symbol")
    with pytest.raises(PairNotTraded, match="does not know chz_usdt"):
        exchange.hours(5, CHZ)
    assert "CHZUSDT" not in exchange.client.traded_pairs()


def test_other_refusals_quote_the_exchange(exchange: Exchange) -> None:
    now_ms = exchange.now_ms()

    with pytest.raises(MarketError, match=r"refused \(400\): Invalid interval"):
        exchange.client.klines(BITCOIN, Interval.M5, now_ms - HOUR_MS, now_ms)


def test_an_empty_response_gives_no_candles(exchange: Exchange) -> None:
    exchange.set_fault(symbol="BTCUSDT", kind="empty")

    assert len(exchange.hours(5)) == 0


@pytest.mark.parametrize(
    ("kind", "kept", "reported"),
    [
        ("nan", 8, "1 without a finite positive price"),
        ("offgrid", 8, "1 off the grid"),
        ("duplicate", 9, "1 duplicate"),
        ("gap", 8, "1 missing in gaps"),
    ],
)
def test_corrupt_rows_are_rejected_by_clean(exchange: Exchange, kind: str, kept: int, reported: str) -> None:
    exchange.set_fault(symbol="BTCUSDT", kind=kind, times=1)

    candles, report = clean(exchange.hours(9), Interval.H1)

    assert len(candles) == kept
    assert reported in str(report)


def test_a_halted_pair_has_no_newer_candle(exchange: Exchange) -> None:
    exchange.set_fault(symbol="CHZUSDT", kind="halt")
    exchange.set_clock(offset_ms=3 * HOUR_MS)

    assert len(exchange.hours(5, BITCOIN)) == 5
    assert len(exchange.hours(5, CHZ)) <= 2


def test_the_clock_can_be_moved_and_sped_up(exchange: Exchange) -> None:
    exchange.set_clock(offset_ms=0, speed=1)
    before_ms = exchange.now_ms()
    exchange.set_clock(offset_ms=24 * HOUR_MS, speed=3600)
    time.sleep(0.5)
    exchange.set_clock(speed=1)

    # a day ahead, and half an hour or more in half a second
    ahead_ms = exchange.now_ms() - before_ms
    assert ahead_ms > 24 * HOUR_MS + HOUR_MS // 2
    assert len(exchange.hours(30)) == 30


@pytest.mark.parametrize(
    ("body", "named"),
    [({"kind": "nonsense"}, "kind"), ({"kind": "500", "tmies": 3}, "tmies"), ({"kind": "500", "times": 0}, "times")],
)
def test_a_fault_that_does_not_exist_is_refused(exchange: Exchange, body: dict[str, Any], named: str) -> None:
    response = httpx.post(f"{exchange.url}/_control/faults", json=body)

    assert response.status_code == 400
    assert named in response.text
    assert exchange.get("/_control/faults").json() == []


def test_too_many_requests_are_rate_limited() -> None:
    with exchange_server() as url, httpx.Client(base_url=url) as client:
        client.post("/_control/clock", json={"speed": 0})  # it stays in one minute
        responses = (client.get("/api/v3/exchangeInfo") for _ in range(700))  # 20 of 6000 a minute each
        limited = next(response for response in responses if response.status_code != 200)

    assert limited.status_code == 429
    assert 1 <= int(limited.headers["Retry-After"]) <= 60


def test_the_program_simulates_the_pairs_that_it_is_given(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "infra.exchange", "--port", str(port), "--pairs", "nobodys_usdt"]
    with running(command, f"{url}/api/v3/ping", tmp_path / "log"):
        exchange = Exchange(url)
        assert "SIMULATED" in exchange.get("/").text
        assert len(exchange.hours(5, Pair("nobodys", "usdt"))) == len(exchange.hours(5)) == 5


def test_a_recording_is_replayed_at_the_present_time(tmp_path: Path) -> None:
    recording = simulate(FIRST_MS + 1000 * HOUR_MS)["BTCUSDT"]
    write_klines(klines_path(tmp_path, BITCOIN), recording)
    url = f"http://127.0.0.1:{(port := free_port())}"
    with running(_command(port, tmp_path, tmp_path), f"{url}/api/v3/ping", tmp_path / "log"):
        exchange = Exchange(url)
        assert "RECORDED" in exchange.get("/").text
        candles, report = clean(exchange.hours(1200), Interval.H1)

    assert report.rejected == {}
    assert len(candles) == 1200
    assert abs(int(candles.open_time_ms[-1]) + HOUR_MS - time.time() * 1000) < 1.1 * HOUR_MS
    first = int(np.argmin(np.abs(recording.close - candles.close[0])))
    np.testing.assert_allclose(candles.close, recording.close[first : first + 1200], rtol=1e-8)


def test_listed_pairs_are_of_one_quote_currency_and_have_names_that_we_can_write(tmp_path: Path) -> None:
    last_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000)
    times, prices = last_ms + HOUR_MS * np.arange(-500, 0), np.full(500, 100.0)
    for symbol in ("ADAUSDT", "ETHBTC", "币安人生USDT"):
        rows = Candles(times, prices, prices, prices, prices, prices)
        write_klines(tmp_path / f"{symbol}.parquet", rows)
    url = f"http://127.0.0.1:{(port := free_port())}"
    with running(_command(port, tmp_path, tmp_path), f"{url}/api/v3/ping", tmp_path / "log"):
        client = ExchangeClient(url)
        assert client.listed_pairs("usdt") == [(Pair("ada", "usdt"), True)]
        assert client.listed_pairs("btc") == [(Pair("eth", "btc"), True)]


def test_a_week_begins_on_monday_and_the_open_one_is_left_out(exchange: Exchange) -> None:
    monday_ms = 1_762_128_000_000  # 2025-11-03 00:00 UTC
    days = exchange.client.klines(BITCOIN, Interval.D1, monday_ms, monday_ms + 7 * 24 * HOUR_MS)

    (week,) = exchange.client.weeks(BITCOIN, monday_ms - HOUR_MS, monday_ms + 14 * 24 * HOUR_MS - 1)

    assert (week.high, week.low) == (max(days.high), min(days.low))
    assert week.quote_volume == pytest.approx(sum(days.volume * days.close), rel=0.1)


def test_a_folder_that_cannot_be_replayed_is_named_at_the_start(tmp_path: Path) -> None:
    ended = subprocess.run(
        _command(free_port(), tmp_path, tmp_path), capture_output=True, text=True, cwd=PROJECT_ROOT, check=False
    )

    assert ended.returncode == 1
    assert ended.stderr.startswith(f"error: {tmp_path} holds no .parquet klines")


def _command(port: int, data: Path, state: Path) -> list[str]:
    command = [sys.executable, "-m", "infra.exchange", "--port", str(port)]
    return [*command, "--data", str(data), "--state", str(state / "exchange.json")]
