"""The choice of the foundation's pairs and the fetch of their candles, on the real replay exchange and a real S3."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import httpx
import pytest

from infra.exchange.universe import EARLY_END_MS, LATE_MS, UNIVERSE
from make_us_rich.core.errors import LocationRefused, MarketUnavailable, NotEnoughHistory, RateLimited
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN, Pair
from make_us_rich.core.settings import Settings
from make_us_rich.documents import FetchedPairs
from make_us_rich.market import exchange
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.market.exchange import ExchangeClient
from make_us_rich.market.object_store import ObjectStore
from make_us_rich.market.universe import WEEK_MS, choose_universe, fetch_universe
from tests.support.processes import PROJECT_ROOT
from tests.support.servers import S3_KEYS, exchange_server, s3_server

pytestmark = pytest.mark.usefixtures("quick_retries")

MATIC, AVAX, SUI, ETH = (Pair(base, "usdt") for base in ("matic", "avax", "sui", "eth"))
MONDAY_MS = EARLY_END_MS + 4 * WEEK_MS  # 2025-03-31
HISTORY = 12 * 7 * 24
FEW = 4 * 7 * 24  # candles of each pair that a test fetches


class Market:
    """The exchange and the store of one test."""

    def __init__(self, url: str, objects: ObjectStore) -> None:
        self.url = url
        self.objects = objects
        self.log: list[str] = []

    def choose(
        self, as_of_ms: int = MONDAY_MS, count: int = 8, objects: ObjectStore | None = None, history: int = HISTORY
    ) -> list[Pair]:
        universe = choose_universe(
            ExchangeClient(self.url),
            objects or self.objects,
            market="simulated",
            interval=Interval.H1,
            as_of_ms=as_of_ms,
            history_candles=history,
            count=count,
            log=self.log.append,
        )
        return [item.pair for item in universe.chosen]

    def fetch(self, pairs: Sequence[Pair], as_of_ms: int = MONDAY_MS, history: int = FEW) -> FetchedPairs:
        return fetch_universe(
            ExchangeClient(self.url),
            CandleStore(self.objects),
            pairs,
            market="simulated",
            interval=Interval.H1,
            as_of_ms=as_of_ms,
            history_candles=history,
            log=self.log.append,
        )

    def stored(self, pair: Pair, as_of_ms: int = MONDAY_MS) -> int:
        """Return how many candles are stored of what `fetch` wants."""
        return len(CandleStore(self.objects).read("simulated", pair, Interval.H1, as_of_ms - FEW * HOUR_MS, as_of_ms))

    def weekly_volume(self, symbol: str) -> float:
        query = {"symbol": symbol, "interval": "1w", "startTime": MONDAY_MS - HISTORY * HOUR_MS, "limit": 12}
        rows = httpx.get(f"{self.url}/api/v3/klines", params=query).raise_for_status().json()
        return sum(float(row[7]) for row in rows)

    def usage(self) -> dict[str, int]:
        """Return the requests, their weight and the bytes of their responses since the last call."""
        used: dict[str, int] = httpx.get(f"{self.url}/_control/usage").json()
        httpx.delete(f"{self.url}/_control/usage").raise_for_status()
        return used

    def requests(self) -> int:
        return self.usage()["requests"]

    def set_fault(self, **fault: object) -> None:
        httpx.post(f"{self.url}/_control/faults", json=fault).raise_for_status()

    def repair(self) -> None:
        httpx.delete(f"{self.url}/_control/faults").raise_for_status()

    def set_clock(self, now_ms: int, speed: float = 1) -> None:
        change = {"offset_ms": now_ms - time.time_ns() // 1_000_000, "speed": speed}
        httpx.post(f"{self.url}/_control/clock", json=change).raise_for_status()


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture
def market(exchange_url: str, s3_url: str, request: pytest.FixtureRequest) -> Iterator[Market]:
    market = Market(exchange_url, _bucket(s3_url, request.node.name))
    market.requests()
    yield market
    market.repair()
    market.set_clock(time.time_ns() // 1_000_000)


@pytest.fixture
def other_bucket(s3_url: str, request: pytest.FixtureRequest) -> ObjectStore:
    return _bucket(s3_url, f"other-{request.node.name}")


def _bucket(s3_url: str, name: str) -> ObjectStore:
    objects = ObjectStore(s3_url, *S3_KEYS, re.sub("[^a-z0-9]+", "-", name.lower())[:60].strip("-"))
    objects.ensure_bucket()
    return objects


def test_the_most_traded_pairs_are_chosen_without_stablecoins_and_leveraged_tokens(market: Market) -> None:
    chosen = market.choose(count=8)

    volumes = [market.weekly_volume(pair.symbol) for pair in chosen]
    assert volumes == sorted(volumes, reverse=True)
    left_out = ("USDCUSDT", "FDUSDUSDT", "BTCUPUSDT", "BTCDOWNUSDT")
    assert min(market.weekly_volume(symbol) for symbol in left_out) > volumes[-1]
    assert not {pair.symbol for pair in chosen} & {*left_out}
    others = {symbol for symbol in UNIVERSE if symbol not in left_out} - {pair.symbol for pair in chosen}
    assert max(map(market.weekly_volume, others)) < volumes[-1]


def test_a_coin_whose_name_only_ends_like_a_leveraged_token_is_chosen(market: Market) -> None:
    chosen = market.choose(count=1000)

    assert Pair("jup", "usdt") in chosen
    assert len(chosen) == len({*chosen}) < 1000


def test_a_past_choice_is_the_one_that_a_run_at_that_time_made(market: Market, other_bucket: ObjectStore) -> None:
    for as_of_ms in (LATE_MS - WEEK_MS, EARLY_END_MS - WEEK_MS, MONDAY_MS):
        market.set_clock(as_of_ms + HOUR_MS)
        at_that_time = market.choose(as_of_ms, count=12)
        market.set_clock(time.time_ns() // 1_000_000)

        assert market.choose(as_of_ms, count=12, objects=other_bucket) == at_that_time
    assert SUI not in market.choose(LATE_MS - WEEK_MS, count=1000), "chosen before it was listed"
    assert SUI in market.choose(LATE_MS + WEEK_MS, count=1000)


def test_a_later_choice_changes_no_earlier_one(market: Market, other_bucket: ObjectStore) -> None:
    later = market.choose(MONDAY_MS + 40 * WEEK_MS, count=12)
    earlier = market.choose(MONDAY_MS, count=12)

    assert earlier == market.choose(MONDAY_MS, count=12, objects=other_bucket)
    assert earlier != later


def test_a_pair_that_was_delisted_during_the_history_is_chosen_until_the_history_has_passed(market: Market) -> None:
    assert MATIC in market.choose(EARLY_END_MS + 4 * WEEK_MS)
    assert MATIC not in market.choose(EARLY_END_MS + 12 * WEEK_MS, count=1000)


def test_a_choice_is_stored_and_read_by_later_runs_of_the_same_week(market: Market) -> None:
    chosen = market.choose(MONDAY_MS + 3 * HOUR_MS)
    assert market.requests() > 50
    assert market.objects.list_keys("universe/") == ["universe/simulated/1h/2025-03-31.json"]

    assert market.choose(MONDAY_MS + WEEK_MS - HOUR_MS) == chosen
    assert market.requests() == 0
    assert "chosen before: 8 pairs as of 2025-03-31" in market.log[-1]
    assert len(market.choose(count=9)) == 9, "a changed MUR_FOUNDATION_PAIRS had no effect"


def test_a_choice_before_the_first_candle_is_refused(market: Market) -> None:
    with pytest.raises(NotEnoughHistory, match="no usdt pair has a week"):
        market.choose(1_500_000_000_000)


def test_a_pair_that_cannot_be_ranked_is_left_out_for_now(market: Market) -> None:
    market.set_fault(symbol=AVAX.symbol, kind="500")
    without = market.choose()
    market.repair()
    complete = market.choose()

    assert AVAX in complete
    assert without[:-1] == [pair for pair in complete if pair != AVAX]
    assert "avax_usdt is not ranked: the exchange failed with 500" in market.log


def test_a_pair_of_an_earlier_choice_that_the_exchange_removed_is_ranked_by_its_stored_candles(market: Market) -> None:
    before = market.choose(MONDAY_MS)
    market.fetch([MATIC, BITCOIN], EARLY_END_MS)
    market.set_fault(symbol=MATIC.symbol, kind="unknown_symbol")

    assert MATIC in before
    assert MATIC in market.choose(MONDAY_MS + WEEK_MS, count=1000)
    assert MATIC not in market.choose(MONDAY_MS + 12 * WEEK_MS, count=1000)


def test_one_pair_that_fails_is_named_and_stops_no_other(market: Market) -> None:
    market.set_fault(symbol=AVAX.symbol, kind="500")

    result = market.fetch([ETH, AVAX, BITCOIN])

    assert result.fetched == (ETH, BITCOIN)
    assert result.failed == {AVAX: "the exchange failed with 500"}
    assert market.stored(ETH) == market.stored(BITCOIN) == FEW


def test_a_delisted_pair_keeps_its_candles_and_is_no_failure(market: Market) -> None:
    as_of_ms = EARLY_END_MS + WEEK_MS

    result = market.fetch([MATIC, BITCOIN], as_of_ms)

    assert result == FetchedPairs(fetched=(MATIC, BITCOIN), failed={})
    assert market.stored(MATIC, as_of_ms) == FEW - 7 * 24
    assert any("not traded any more, its candles stay" in line for line in market.log)
    gone = market.fetch([MATIC, BITCOIN], EARLY_END_MS + 8 * WEEK_MS)
    assert "matic_usdt is not traded any more" in gone.failed[MATIC]


def test_without_bitcoin_the_fetch_fails(market: Market) -> None:
    market.set_fault(symbol=BITCOIN.symbol, kind="500")

    with pytest.raises(MarketUnavailable, match="without the candles of btc_usdt: the exchange failed with 500"):
        market.fetch([ETH, BITCOIN])


def test_an_outage_of_the_exchange_ends_the_fetch_instead_of_failing_pair_by_pair(market: Market) -> None:
    market.set_fault(kind="500", times=8)  # one pair's attempts, and those to read the exchange's clock

    with pytest.raises(MarketUnavailable, match="failed with 500"):
        market.fetch([Pair(f"coin{number}", "usdt") for number in range(50)])
    assert market.requests() == 0, "it was answered"


@pytest.mark.parametrize(("kind", "error"), [("418", RateLimited), ("451", LocationRefused)])
def test_a_ban_ends_the_fetch_at_once(market: Market, kind: str, error: type[Exception]) -> None:
    market.set_fault(kind=kind, retry_after_s=3600)

    with pytest.raises(error):
        market.fetch([ETH, AVAX, BITCOIN])
    assert market.requests() == 0


_FETCH = """
import sys
from tests.contract.test_universe import EARLY_END_MS, S3_KEYS, Market, ObjectStore
market = Market(sys.argv[1], ObjectStore(sys.argv[2], *S3_KEYS, sys.argv[3]))
market.log = type("Log", (), {"append": staticmethod(lambda line: print(line, flush=True))})()
market.fetch(market.choose(EARLY_END_MS, count=20), EARLY_END_MS)
"""


def test_a_killed_fill_is_resumed_and_fetches_no_pair_again(market: Market, s3_url: str) -> None:
    pairs = market.choose(EARLY_END_MS, count=20)
    bucket = "test-a-killed-fill-is-resumed-and-fetches-no-pair-again"
    command = [sys.executable, "-c", _FETCH, market.url, s3_url, bucket]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT_ROOT) as filling:
        assert filling.stdout is not None
        next(line for line in filling.stdout if line.startswith("7 of 20: "))
        filling.kill()
    done = sum(market.stored(pair, EARLY_END_MS) == FEW for pair in pairs)
    assert 7 <= done < 20
    market.requests()

    result = market.fetch(pairs, EARLY_END_MS)

    assert result.fetched == tuple(pairs)
    # the exchange's clock, and one page of candles for each pair that was left
    assert market.requests() == 1 + 20 - done
    assert all(market.stored(pair, EARLY_END_MS) == FEW for pair in pairs)
    assert "20 of 20 pairs fetched; " in market.log[-1]


def test_the_next_week_requests_only_that_week(market: Market) -> None:
    market.fetch([ETH, BITCOIN], MONDAY_MS)
    market.requests()

    market.fetch([ETH, BITCOIN], MONDAY_MS + WEEK_MS)

    assert market.requests() == 3
    assert sum("requested 168 and received 168 candles" in line for line in market.log) == 2


@pytest.mark.parametrize("count", [3, int(os.environ.get("PAIRS", "8"))])
def test_the_cost_of_the_first_fill_and_of_each_week(market: Market, count: int) -> None:
    """Prints the table of docs/reference/sizing.md with `PAIRS=50 pytest -s`."""
    history = Settings.model_fields["history_candles"].default
    pages = -(-history // 1000)
    began, week_ms = time.monotonic(), MONDAY_MS + 60 * WEEK_MS
    market.choose(week_ms, count, history=history)
    ranking = market.usage()
    first = market.fetch(market.choose(week_ms, count, history=history), week_ms, history)
    filled_s, filling = time.monotonic() - began, market.usage()
    began = time.monotonic()
    market.fetch(first.fetched, week_ms + WEEK_MS, history)
    next_s, following = time.monotonic() - began, market.usage()

    for name, used in (("ranking", ranking), ("first fill", filling), ("each week", following)):
        print(
            f"{count} pairs, {name}: {used['requests']} requests, weight {used['weight']}, {used['bytes'] / 1e6:.2f} MB"
        )
    print(f"{filled_s:.1f} s with the first fill, {next_s:.1f} s in the next week")
    assert len(first.fetched) == count
    assert (filling["requests"], filling["weight"]) == (1 + count * pages, 1 + 2 * count * pages)
    assert (following["requests"], following["weight"]) == (1 + count, 1 + 2 * count)


class ClockOfBoth:
    """Stands in for `time` of the client: who sleeps moves the exchange's clock, which stands still otherwise."""

    monotonic = staticmethod(time.monotonic)

    def __init__(self, market: Market, now_s: float) -> None:
        self._market = market
        self._now_s = now_s
        self.sleep(0)

    def time(self) -> float:
        return self._now_s

    def sleep(self, seconds: float) -> None:
        self._now_s += seconds
        self._market.set_clock(int(self._now_s * 1000), speed=0)


def test_the_fetch_waits_before_the_exchange_limits_it(
    other_bucket: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with exchange_server() as url:
        market = Market(url, other_bucket)
        clock = ClockOfBoth(market, time.time() // 60 * 60 + 20)
        monkeypatch.setattr(exchange, "time", clock)
        began_s = clock.time()
        with httpx.Client(base_url=url) as others:  # of the same address

            def weight() -> int:
                return int(others.get("/api/v3/exchangeInfo").raise_for_status().headers["X-MBX-USED-WEIGHT-1M"])

            while weight() < 5400:
                pass

            result = market.fetch([ETH, BITCOIN])

            assert result.fetched == (ETH, BITCOIN)
            assert clock.time() == began_s + 40, "it did not wait for the next minute"
            assert weight() < 100, "the exchange still counts the minute before"
