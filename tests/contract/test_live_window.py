"""A pair's newest candles, from the real replay exchange."""

from __future__ import annotations

from dataclasses import replace

import httpx
import numpy as np
import pytest

from make_us_rich.core.errors import MarketUnavailable
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN, Pair, Series
from make_us_rich.core.settings import Settings
from make_us_rich.market.candles import Candles, merge
from make_us_rich.market.window import WINDOW_CANDLES, LiveWindow, NewestCandles
from tests.support.forecasts import make_forecast

BTC, ETH = Series(BITCOIN, Interval.H1), Series(Pair.parse("eth_usdt"), Interval.H1)


@pytest.fixture(scope="module")
def settings(exchange_url: str) -> Settings:
    return Settings(exchange_url=exchange_url, market="simulated")


def test_a_window_ends_with_the_last_closed_candle(settings: Settings, now_ms: int) -> None:
    market = LiveWindow(ETH, settings, NewestCandles(BTC, settings))
    market.refresh(now_ms)
    assert market.window is not None
    assert market.window.as_of_ms == Interval.H1.last_close_ms(now_ms)
    assert len(market.window.candles) == WINDOW_CANDLES
    np.testing.assert_array_equal(market.window.candles.open_time_ms, market.window.reference.open_time_ms)
    assert market.window.candles.close[-1] != market.window.reference.close[-1]


def test_the_next_close_adds_one_candle(settings: Settings, now_ms: int) -> None:
    market = LiveWindow(ETH, settings, NewestCandles(BTC, settings))
    market.refresh(now_ms - HOUR_MS)
    before = market.window
    market.refresh(now_ms)
    assert before is not None
    assert market.window is not None
    assert market.window.as_of_ms == before.as_of_ms + HOUR_MS
    np.testing.assert_array_equal(market.window.candles.close[:-1], before.candles.close[1:])


def test_the_pairs_of_a_process_ask_for_the_clock_once_and_each_makes_one_request_a_close(
    settings: Settings, now_ms: int
) -> None:
    pairs = [Series(Pair.parse(name), Interval.H1) for name in ("eth_usdt", "chz_usdt", "ada_usdt")]
    windows = [NewestCandles(series, settings) for series in pairs]
    close_ms = Interval.H1.last_close_ms(now_ms) - HOUR_MS
    for window in windows:
        window.closed_by(close_ms)
    usage = f"{settings.exchange_url}/_control/usage"
    httpx.delete(usage).raise_for_status()

    for window in windows:
        assert int(window.closed_by(close_ms + HOUR_MS).open_time_ms[-1]) == close_ms

    assert httpx.get(usage).json()["requests"] == len(windows)


def test_a_candle_that_does_not_exist_yet_leaves_the_window_unchanged(settings: Settings, now_ms: int) -> None:
    market = LiveWindow(ETH, settings, NewestCandles(BTC, settings))
    market.refresh(now_ms)
    before = market.window
    with pytest.raises(MarketUnavailable, match="no candle of eth_usdt closed at"):
        market.refresh(now_ms + HOUR_MS)
    assert market.window is before


def test_candles_from_disk_are_never_merged_with_the_exchanges(settings: Settings, now_ms: int) -> None:
    kept = make_forecast("eth_usdt", as_of_ms=now_ms - HOUR_MS).window
    market = LiveWindow(ETH, settings, NewestCandles(BTC, settings))
    market.restore(replace(kept))
    market.refresh(now_ms)
    assert market.window is not None
    assert not (market.window.candles.close == 100.0).any()


def test_a_pushed_candle_is_added_if_it_is_the_next_one_and_valid(settings: Settings, now_ms: int) -> None:
    close_ms = Interval.H1.last_close_ms(now_ms)
    newest = NewestCandles(ETH, settings)
    all_of_them = NewestCandles(ETH, settings).closed_by(close_ms)
    candle = all_of_them[-1:]

    newest.add(candle, now_ms=close_ms)
    assert newest.newest_close_ms == 0, "the first candles are fetched"

    newest.closed_by(close_ms - 2 * HOUR_MS)
    newest.add(candle, now_ms=close_ms)
    assert newest.newest_close_ms == close_ms - 2 * HOUR_MS, "the candle between is missing"

    newest.closed_by(close_ms - HOUR_MS)
    newest.add(replace(candle, close=np.array([np.nan])), now_ms=close_ms)
    assert newest.newest_close_ms == close_ms - HOUR_MS, "a price is missing"

    newest.add(candle, now_ms=close_ms)
    newest.add(candle, now_ms=close_ms)
    assert newest.newest_close_ms == close_ms
    np.testing.assert_array_equal(newest.closed_by(close_ms).close, all_of_them.close)


def test_pushed_candles_of_the_future_are_refused(settings: Settings, now_ms: int) -> None:
    """1,100 of them evicted the window, and the pair had no candles until the process was restarted."""
    close_ms = Interval.H1.last_close_ms(now_ms)
    newest = NewestCandles(ETH, settings)
    known = newest.closed_by(close_ms)
    for hour in range(1, 1101):
        newest.add(replace(known[-1:], open_time_ms=known.open_time_ms[-1:] + hour * HOUR_MS), now_ms=close_ms)
    np.testing.assert_array_equal(newest.closed_by(close_ms).open_time_ms, known.open_time_ms)

    early = replace(known[-1:], open_time_ms=known.open_time_ms[-1:] + HOUR_MS)
    newest.add(early, now_ms=close_ms + HOUR_MS - 5001)
    assert newest.newest_close_ms == close_ms
    newest.add(early, now_ms=close_ms + HOUR_MS - 5000)
    assert newest.newest_close_ms == close_ms + HOUR_MS, "our clock may be a little behind the exchange's"


def test_a_window_ahead_of_the_clock_is_fetched_again(settings: Settings, now_ms: int) -> None:
    """Our clock was hours ahead when the candles were added, and then set right."""
    close_ms = Interval.H1.last_close_ms(now_ms)
    newest = NewestCandles(ETH, settings)
    known = newest.closed_by(close_ms)
    for hour in range(1, 1101):
        future = replace(known[-1:], open_time_ms=known.open_time_ms[-1:] + hour * HOUR_MS)
        newest.add(future, now_ms=close_ms + 1101 * HOUR_MS)
    np.testing.assert_array_equal(newest.closed_by(close_ms).close, known.close)


def _wrong(candle: Candles) -> Candles:
    return replace(candle, close=candle.close * 1.0001, high=candle.high * 1.001)


def test_a_pushed_candle_with_a_wrong_price_is_corrected_by_the_check_or_at_the_next_close(
    settings: Settings, now_ms: int
) -> None:
    close_ms = Interval.H1.last_close_ms(now_ms)
    right = NewestCandles(ETH, settings).closed_by(close_ms)
    for due_ms in (close_ms - HOUR_MS, close_ms):
        newest = NewestCandles(ETH, settings)
        newest.closed_by(close_ms - 2 * HOUR_MS)
        newest.add(_wrong(right[-2:-1]), now_ms=close_ms)
        assert newest.newest_close_ms == close_ms - HOUR_MS
        assert newest.closed_by(close_ms - HOUR_MS).close[-1] != right.close[-2]

        found = newest.check(due_ms) if due_ms < close_ms else newest.closed_by(close_ms)

        np.testing.assert_array_equal(found.close[-2:], right.close[right.open_time_ms < due_ms][-2:])


def test_many_wrong_candles_in_a_row_are_corrected_by_one_check(settings: Settings, now_ms: int) -> None:
    close_ms = Interval.H1.last_close_ms(now_ms)
    right = NewestCandles(ETH, settings).closed_by(close_ms)
    newest = NewestCandles(ETH, settings)
    newest.closed_by(close_ms - 5 * HOUR_MS)
    for row in range(-5, 0):
        newest.add(_wrong(right[len(right) + row : len(right) + row + 1]), now_ms=close_ms)
    assert newest.newest_close_ms == close_ms
    np.testing.assert_array_equal(newest.check(close_ms).close, right.close)


def test_a_checked_candle_is_not_asked_for_again(settings: Settings, now_ms: int) -> None:
    bitcoin = NewestCandles(BTC, settings)
    markets = [
        LiveWindow(Series(Pair.parse(pair), Interval.H1), settings, bitcoin) for pair in ("eth_usdt", "chz_usdt")
    ]
    for market in markets:
        market.refresh(now_ms)
        assert market.window is not None
    before = [market.window for market in markets]
    usage = f"{settings.exchange_url}/_control/usage"
    httpx.delete(usage).raise_for_status()

    assert not any(market.check(now_ms) for market in markets for _ in range(2))

    assert httpx.get(usage).json()["requests"] == 3, "one for each pair and one for bitcoin"
    assert [market.window for market in markets] == before, "nothing is forecast again"


@pytest.mark.parametrize("revised", [ETH, BTC])
def test_a_newest_candle_that_the_exchange_revises_changes_the_window_once(
    settings: Settings, now_ms: int, revised: Series, monkeypatch: pytest.MonkeyPatch
) -> None:
    bitcoin = NewestCandles(BTC, settings)
    market = LiveWindow(ETH, settings, bitcoin)
    client = (market._own if revised == ETH else bitcoin)._exchange
    final = client.klines
    with monkeypatch.context() as patch:
        patch.setattr(client, "klines", lambda *request: merge([rows := final(*request), _wrong(rows[-1:])]))
        market.refresh(now_ms)
    assert market.window is not None
    first = market.window

    assert market.check(now_ms) is True
    assert market.window is not first
    assert not market.window.equals(first)
    assert market.check(now_ms) is False
