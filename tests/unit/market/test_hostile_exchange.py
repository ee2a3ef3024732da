"""What a hostile or broken exchange answers ends in the market's error, within its caps of size, time and requests."""

from __future__ import annotations

import gzip
import json
import time
import tracemalloc
from collections.abc import Callable
from itertools import repeat
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from make_us_rich.core.errors import MarketError, MarketUnavailable, RateLimited
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN
from make_us_rich.core.settings import Settings
from make_us_rich.market import listing
from make_us_rich.market.exchange import ExchangeClient, ExchangeClock
from make_us_rich.market.limited_http import Limits, limited_session
from make_us_rich.operations import health
from make_us_rich.operations.health import check_components
from tests.support.raw_server import Send, plain, raw_server

FIRST_MS = 1_735_689_600_000  # 2025-01-01 00:00 UTC
MB = 1_000_000


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry at once."""
    monkeypatch.setattr("make_us_rich.market.exchange._retry_wait_s", lambda *_: None)


def kline(open_ms: Any, price: str = "100") -> list[Any]:
    return [open_ms, price, price, price, price, "1", 0, "100", 1, "1", "1", "0"]


def answering(body: bytes, status: str = "200 OK", headers: str = "") -> Callable[[str, Send], None]:
    def answer(path: str, send: Send) -> None:
        send(plain(body, status, headers))

    return answer


def test_a_small_answer_that_unpacks_to_gigabytes_is_refused_within_little_memory() -> None:
    """A few KB of gzip in gzip are 100 MB of zeros; the cap holds for the unpacked size, whatever the layers."""
    bomb = gzip.compress(gzip.compress(bytes(100 * MB), 1))
    with raw_server(answering(bomb, headers="Content-Encoding: gzip, gzip\r\n")) as server:
        client = ExchangeClient(server.url)
        tracemalloc.start()
        with pytest.raises(MarketUnavailable, match="larger than 16 MB"):
            client.server_time_ms()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert peak < 80 * MB


@pytest.mark.parametrize("headers", ["", "Transfer-Encoding: chunked\r\n"])
def test_an_endless_answer_is_cut_off_at_the_cap(headers: str) -> None:
    def answer(path: str, send: Send) -> None:
        send(plain(b"", headers=headers))
        for part in repeat(bytes(65_536)):
            send(b"10000\r\n" + part + b"\r\n" if headers else part)

    with raw_server(answer) as server, pytest.raises(MarketUnavailable, match="larger than 16 MB"):
        ExchangeClient(server.url).server_time_ms()


@pytest.mark.parametrize(
    "start",
    [b"", b"HTTP/1.1 200 OK\r\nX-Long: ", plain(b"["), plain(b"", headers="Transfer-Encoding: chunked\r\n")],
    ids=["status line", "headers", "body", "chunks"],
)
def test_an_answer_that_drips_has_a_limit_in_total(start: bytes) -> None:
    """Each byte comes within the limit of one wait, so only the sum of them is too long."""

    def answer(path: str, send: Send) -> None:
        send(start)
        while not server.ended.wait(0.05):
            send(b"1")

    with raw_server(answer) as server:
        client = ExchangeClient(server.url, limits=Limits(total_s=0.5))
        began = time.monotonic()
        with pytest.raises(MarketUnavailable, match="took longer than"):
            client.server_time_ms()
        assert time.monotonic() - began < 5


def test_interim_answers_without_end_have_a_limit_too() -> None:
    def answer(path: str, send: Send) -> None:
        while not server.ended.wait(0.01):
            send(b"HTTP/1.1 100 Continue\r\n\r\n")

    with raw_server(answer) as server, pytest.raises(MarketUnavailable, match="took longer than"):
        ExchangeClient(server.url, limits=Limits(total_s=0.5)).server_time_ms()


def test_a_redirect_is_neither_followed_nor_quoted() -> None:
    def inner(path: str, send: Send) -> None:
        send(plain(b'{"serverTime": 1}'))

    with raw_server(inner) as secret:
        target = f"{secret.url}/latest/meta-data"
        with raw_server(answering(b"", "302 Found", f"Location: {target}\r\n")) as server:
            with pytest.raises(MarketError, match=r"redirects .*302.*MUR_EXCHANGE_URL") as caught:
                ExchangeClient(server.url).server_time_ms()
            with pytest.raises(MarketError):
                listing.traded_pairs(server.url)

    assert secret.requests == []
    assert "meta-data" not in str(caught.value)


DEEP = b"[" * 100_000
ODD: dict[str, tuple[bytes, str, str]] = {
    "deep JSON": (DEEP, "200 OK", ""),
    "deep JSON in an error": (DEEP, "400 Bad Request", ""),
    "half deep JSON": (b"[" * 900 + b"]" * 900, "200 OK", ""),
    "an infinite time": (b'{"serverTime": 1e999}', "200 OK", ""),
    "no number": (b'{"serverTime": NaN}', "200 OK", ""),
    "a time of 5,000 digits": (b'{"serverTime": "' + b"9" * 5000 + b'"}', "200 OK", ""),
    "a time after 2100": (b'{"serverTime": 99999999999999999}', "200 OK", ""),
    "a list as an error": (b"[]", "400 Bad Request", ""),
    "no JSON but bytes": (bytes(range(128, 256)) * 50, "200 OK", ""),
    "weights in words": (b'{"serverTime": []}', "200 OK", "X-MBX-USED-WEIGHT-1M: many\r\n"),
    "a redirect to no URL": (b"", "302 Found", "Location: http://[::1\r\n"),
    "two lengths": (b"{}", "200 OK", "Content-Length: 5, 6\r\n"),
    "a broken gzip": (b"abc", "200 OK", "Content-Encoding: gzip\r\n"),
    "many encodings": (b"abc", "200 OK", "Content-Encoding: " + ", ".join(["gzip"] * 50) + "\r\n"),
    "an unknown character set": (b"{}", "200 OK", "Content-Type: text/plain; charset=none-such\r\n"),
    "nothing": (b"", "200 OK", ""),
    "status 999": (b"", "999 Odd", ""),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.server_time_ms(),
        lambda client: client.traded_pairs(),
        lambda client: client.weeks(BITCOIN, FIRST_MS, FIRST_MS + HOUR_MS),
        lambda client: client.klines(BITCOIN, Interval.H1, FIRST_MS, FIRST_MS + HOUR_MS),
    ],
    ids=["time", "pairs", "weeks", "candles"],
)
def test_any_odd_answer_is_the_markets_error(
    odd: tuple[bytes, str, str], ask: Callable[[ExchangeClient], object]
) -> None:
    with raw_server(answering(*odd)) as server, pytest.raises(MarketError) as caught:
        ask(ExchangeClient(server.url))
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
def test_any_odd_answer_to_the_dashboard_is_the_markets_error(odd: tuple[bytes, str, str]) -> None:
    with raw_server(answering(*odd)) as server, pytest.raises(MarketError):
        listing.traded_pairs(server.url)


def test_the_dashboards_list_of_pairs_has_the_same_caps() -> None:
    with (
        raw_server(answering(gzip.compress(bytes(17 * MB)), headers="Content-Encoding: gzip\r\n")) as server,
        pytest.raises(MarketUnavailable, match="larger than 16 MB"),
    ):
        listing.traded_pairs(server.url)


@pytest.mark.parametrize("odd", [ODD["deep JSON"], ODD["an infinite time"], ODD["two lengths"]])
def test_the_health_check_names_the_exchange(odd: tuple[bytes, str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_CHECKS", {"exchange": health._CHECKS["exchange"]})  # the others would be waited for
    with raw_server(answering(*odd)) as server:
        settings = Settings(exchange_url=server.url)
        (found,) = check_components(settings)

    assert (found.name, found.state) == ("exchange", "failed")


@pytest.mark.parametrize("symbols", ['[{"symbol": [], "status": "TRADING"}]', "[1]", "7", "null", '["abc"]'])
def test_lists_of_pairs_of_another_form_are_the_markets_error(symbols: str) -> None:
    with raw_server(answering(b'{"symbols": ' + symbols.encode() + b"}")) as server:
        client = ExchangeClient(server.url)
        for ask in (client.traded_pairs, lambda: client.listed_pairs("usdt"), lambda: listing.traded_pairs(server.url)):
            with pytest.raises(MarketError):
                ask()


def test_a_listed_name_that_is_no_text_is_the_markets_error() -> None:
    body = b'{"symbols": [{"symbol": [], "status": "TRADING", "baseAsset": 2, "quoteAsset": "USDT"}]}'
    with raw_server(answering(body)) as server:
        client = ExchangeClient(server.url)
        for ask in (client.traded_pairs, lambda: client.listed_pairs("usdt")):
            with pytest.raises(MarketError):
                ask()


@pytest.mark.parametrize("cell", ["1e999", "NaN", "{}", "[]", "null", '"abc"', "1" + "0" * 400, '"1e308"'])
def test_weeks_with_odd_numbers_are_left_out_or_the_markets_error(cell: str) -> None:
    row = json.dumps([FIRST_MS, "1", "2", "1", "1", "1", FIRST_MS + 1, "CELL", 1, "1", "1", "0"])
    with raw_server(answering(f"[{row}]".replace('"CELL"', cell).encode())) as server:
        try:
            weeks = ExchangeClient(server.url).weeks(BITCOIN, FIRST_MS, FIRST_MS + 10)
        except MarketError:
            weeks = []
    assert weeks == []


def test_a_line_of_the_log_cannot_be_forged_by_the_exchange() -> None:
    body = json.dumps({"code": -1, "msg": "bad\n2026-01-01 00:00 INFO all is well \x1b[2J" + "x" * 5000}).encode()
    with (
        raw_server(answering(body, "400 Bad Request")) as server,
        pytest.raises(MarketError, match=r"refused \(400\): bad") as caught,
    ):
        ExchangeClient(server.url).server_time_ms()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def test_no_cookie_is_kept() -> None:
    with raw_server(answering(b'{"serverTime": 1735689600000}', headers="Set-Cookie: a=b\r\n")) as server:
        session = limited_session(Limits())
        session.get(server.url)
        assert len(session.cookies) == 0


def past_clock() -> ExchangeClock:
    clock = ExchangeClock()
    clock.note(FIRST_MS + 100_000 * HOUR_MS)
    return clock


def test_candles_of_the_past_cost_one_request_and_are_no_candles() -> None:
    rows = json.dumps([kline(FIRST_MS - 500 * HOUR_MS)]).encode()
    with raw_server(answering(rows)) as server, pytest.raises(MarketUnavailable, match="another time"):
        ExchangeClient(server.url, clock=past_clock()).klines(BITCOIN, Interval.H1, FIRST_MS, FIRST_MS + 5000 * HOUR_MS)
    assert len(server.requests) == 1


def test_candles_of_the_past_beside_asked_ones_are_left_out() -> None:
    def answer(path: str, send: Send) -> None:
        start = int(parse_qs(urlsplit(path).query)["startTime"][0])
        rows = [kline(FIRST_MS - HOUR_MS), *(kline(start + n * HOUR_MS) for n in range(1000))]
        send(plain(json.dumps(rows).encode()))

    with raw_server(answer) as server:
        candles = ExchangeClient(server.url, clock=past_clock()).klines(
            BITCOIN, Interval.H1, FIRST_MS, FIRST_MS + 2000 * HOUR_MS
        )
    assert candles.open_time_ms.tolist() == [FIRST_MS + n * HOUR_MS for n in range(2000)]
    assert len(server.requests) == 2


def test_one_candle_for_each_request_ends_after_few_requests() -> None:
    """4,000 candles are four requests of an exchange that answers whole pages."""

    def answer(path: str, send: Send) -> None:
        start = int(parse_qs(urlsplit(path).query)["startTime"][0])
        send(plain(json.dumps([kline(start)]).encode()))

    with raw_server(answer) as server, pytest.raises(MarketUnavailable, match="too few candles"):
        ExchangeClient(server.url, clock=past_clock()).klines(BITCOIN, Interval.H1, FIRST_MS, FIRST_MS + 4000 * HOUR_MS)
    assert len(server.requests) < 20


PAGE = b"<!DOCTYPE HTML><HTML><BODY><H1>403 ERROR</H1>Request blocked.</BODY></HTML>"


@pytest.mark.parametrize("header", ["nan", "inf", "-1", "soon"])
@pytest.mark.parametrize("status", ["429 Too Many Requests", "418 Teapot"])
def test_a_retry_after_that_is_nonsense_means_the_default(status: str, header: str) -> None:
    body = b'{"code": -1003, "msg": "Too many requests"}'
    with (
        raw_server(answering(body, status, f"Retry-After: {header}\r\n")) as server,
        pytest.raises(RateLimited) as caught,
    ):
        ExchangeClient(server.url).server_time_ms()
    assert caught.value.retry_after_s == 60


def test_a_ban_whose_end_stands_in_the_text_is_waited_for() -> None:
    until_ms = int(time.time() * 1000) + 7_200_000
    body = json.dumps({"code": -1003, "msg": f"Way too much request weight used; IP banned until {until_ms}."}).encode()
    with raw_server(answering(body, "418 Teapot")) as server, pytest.raises(RateLimited) as caught:
        ExchangeClient(server.url).server_time_ms()
    assert caught.value.retry_after_s == pytest.approx(7200, abs=60)


def test_the_exchanges_firewall_has_a_sentence_of_its_own_and_is_waited_for_like_a_ban() -> None:
    with raw_server(answering(PAGE, "403 Forbidden")) as server, pytest.raises(RateLimited) as caught:
        ExchangeClient(server.url).server_time_ms()
    assert "firewall" in str(caught.value)
    assert "<" not in str(caught.value)
    assert len(server.requests) == 1


def test_a_proxy_that_wants_a_log_in_is_named() -> None:
    with raw_server(answering(b"<html>", "407 Proxy Authentication Required")) as server:
        with pytest.raises(MarketError, match="proxy") as caught:
            ExchangeClient(server.url).server_time_ms()
        assert "<" not in str(caught.value)


def test_a_page_in_a_refusal_is_not_quoted() -> None:
    with raw_server(answering(PAGE, "404 Not Found")) as server:
        with pytest.raises(MarketError, match=r"refused \(404\)") as caught:
            ExchangeClient(server.url).server_time_ms()
        assert "<" not in str(caught.value)
