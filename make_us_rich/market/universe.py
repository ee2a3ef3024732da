"""The universe: the pairs that the foundation model learns from, served or not, and the fetch of their candles.

It is the pairs priced in USDT that were traded most, by quote volume, over the history that a training run reads. The
ranking uses weeks that ended at or before the run's `as_of`, so it is the same whenever it is computed. Pairs that are
not traded any more are ranked too: a training history without the pairs that failed during it would be biased.

The choice of each week is stored in S3, universe/{market}/{interval}/{YYYY-MM-DD}.json, under the day when the week
ended. Later runs as of that week read it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from statistics import median

import numpy as np
from pydantic import ValidationError

from make_us_rich.core.errors import LocationRefused, MarketError, MarketUnavailable, NotEnoughHistory, RateLimited
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN, Pair
from make_us_rich.documents import ChosenPair, FetchedPairs, Universe
from make_us_rich.market.candle_store import CandleStore, newest_missing
from make_us_rich.market.exchange import ExchangeClient, Week
from make_us_rich.market.object_store import ObjectStore

QUOTE = "usdt"
WEEK_MS = 7 * 24 * HOUR_MS
_MONDAY_MS = 4 * 24 * HOUR_MS  # 1970-01-05, the first Monday
# Stablecoins and currencies move less in a typical week: USDC 0.2 %, EUR 2 %. BTC moved 8 % in its calmest 15 weeks of
# 2020 to 2022.
_LEAST_WEEKLY_RANGE = 0.025
_LEVERAGED = ("up", "down", "bull", "bear")
_PROGRESS_EVERY = 50
_ROUNDS = 2  # a pair whose request failed is requested again after all others

Log = Callable[[str], None]


def choose_universe(
    exchange: ExchangeClient,
    objects: ObjectStore,
    *,
    market: str,
    interval: Interval,
    as_of_ms: int,
    history_candles: int,
    count: int,
    log: Log = print,
) -> Universe:
    """Return the `count` most traded pairs as of a time; stores the choice, or reads a stored one of the same week.

    Leaves out stablecoins and leveraged tokens. A pair that cannot be ranked is not chosen, and the choice is then not
    stored; one of the newest earlier choice is ranked by its stored candles instead. Raises NotEnoughHistory when no
    pair was traded in the whole history, MarketError when the exchange fails, and StoreError.
    """
    until_ms = as_of_ms - (as_of_ms - _MONDAY_MS) % WEEK_MS
    weeks = max(1, history_candles * interval.ms // WEEK_MS)
    prefix = f"universe/{market}/{interval}/"
    key = f"{prefix}{np.datetime64(until_ms, 'ms').astype('datetime64[D]')}.json"
    stored = _stored(objects, key)
    if stored is not None and (stored.weeks, stored.count) == (weeks, count):
        log(f"chosen before: {_describe(stored)}")
        return stored
    from_ms = until_ms - weeks * WEEK_MS
    listed = [pair for pair, _ in exchange.listed_pairs(QUOTE)]
    log(f"ranking {len(listed)} pairs by their {QUOTE} volume of {weeks} weeks")
    history: dict[Pair, list[Week]] = {}

    def rank(pair: Pair) -> None:
        history[pair] = exchange.weeks(pair, from_ms, until_ms)
        if len(history) % _PROGRESS_EVERY == 0:
            log(f"{len(history)} of {len(listed)} ranked; {exchange.usage}")

    failed = _for_each(_without_leveraged(listed), rank, exchange)
    for pair, reason in failed.items():
        log(f"{pair} is not ranked: {reason}")
    volumes = {
        pair: sum(week.quote_volume for week in found) for pair, found in history.items() if found and _moves(found)
    }
    volumes |= _volumes_of_unranked(objects, prefix, key, market, interval, {*history}, from_ms, until_ms)
    chosen = sorted(volumes, key=lambda pair: (-volumes[pair], pair))[:count]
    if not chosen:
        raise NotEnoughHistory(f"no {QUOTE} pair has a week before this time: name a later one", field="as_of")
    universe = Universe(
        market=market,
        interval=interval,
        until_ms=until_ms,
        weeks=weeks,
        count=count,
        chosen=tuple(ChosenPair(pair=pair, quote_volume=volumes[pair]) for pair in chosen),
    )
    if not failed:
        objects.put(key, universe.model_dump_json().encode())
    log(f"chosen: {_describe(universe)}")
    still = [pair for pair, found in history.items() if found and not _moves(found)]
    log(f"left out as stable: {', '.join(still) or 'none'}; {exchange.usage}")
    return universe


def fetch_universe(
    exchange: ExchangeClient,
    store: CandleStore,
    pairs: Sequence[Pair],
    *,
    market: str,
    interval: Interval,
    as_of_ms: int,
    history_candles: int,
    log: Log = print,
) -> FetchedPairs:
    """Store the candles of each pair that S3 lacks. Each pair is stored as it comes, so a repeated fetch resumes.

    A pair that is not traded any more keeps the candles that it has. One that fails is reported in the result and stops
    no other. Raises MarketError when the exchange itself fails or BTC does, whose candles every model reads.
    """
    end_ms = interval.last_close_ms(as_of_ms)
    fetched: list[Pair] = []
    traded = cache(exchange.traded_pairs)

    def fetch(pair: Pair) -> None:
        update = store.fetch_missing(
            exchange, market=market, pair=pair, interval=interval, as_of_ms=as_of_ms, history_candles=history_candles
        )
        ended = ""
        if update.newest_close_ms < end_ms:
            if pair.symbol in traded() or not update.stored:
                raise newest_missing(pair, update.newest_close_ms, end_ms, traded=pair.symbol in traded())
            ended = "; not traded any more, its candles stay"
        fetched.append(pair)
        log(f"{len(fetched)} of {len(pairs)}: {update}{ended}")

    failed = _for_each(pairs, fetch, exchange)
    if BITCOIN in failed:
        raise MarketUnavailable(f"no model can be trained without the candles of {BITCOIN}: {failed[BITCOIN]}")
    log(f"{len(fetched)} of {len(pairs)} pairs fetched; {exchange.usage}")
    return FetchedPairs(fetched=tuple(fetched), failed=failed)


def _for_each(pairs: Iterable[Pair], work: Callable[[Pair], None], exchange: ExchangeClient) -> dict[Pair, str]:
    """Work on each pair; return the reasons of those that failed. Raises MarketError when the exchange itself fails."""
    failed: dict[Pair, str] = {}
    left = list(pairs)
    for _ in range(_ROUNDS):
        failed = {}
        for pair in left:
            try:
                work(pair)
            except (RateLimited, LocationRefused):
                raise
            except MarketError as error:
                exchange.server_time_ms()  # raises when the fault is not of this pair alone
                failed[pair] = str(error)
        left = list(failed)
    return failed


def _without_leveraged(pairs: Sequence[Pair]) -> list[Pair]:
    """Leave out leveraged tokens: btcup, btcdown, ethbull, bear. jup is none, because there is no coin j."""
    bases = {pair.base for pair in pairs}

    def is_leveraged(base: str) -> bool:
        if base in ("bull", "bear"):
            return True
        return any(base.endswith(suffix) and base.removesuffix(suffix) in bases for suffix in _LEVERAGED)

    return [pair for pair in pairs if not is_leveraged(pair.base)]


def _moves(weeks: Sequence[Week]) -> bool:
    """Return whether the price moves; that of a stablecoin does not."""
    return median(week.high / week.low - 1 for week in weeks) >= _LEAST_WEEKLY_RANGE


def _volumes_of_unranked(
    objects: ObjectStore,
    prefix: str,
    key: str,
    market: str,
    interval: Interval,
    ranked: set[Pair],
    from_ms: int,
    until_ms: int,
) -> dict[Pair, float]:
    """Return the volumes, by stored candles, of pairs of the newest earlier choice that the exchange did not rank."""
    earlier = [name for name in objects.list_keys(prefix) if name < key]
    before = _stored(objects, earlier[-1]) if earlier else None
    volumes = {}
    for pair in (item.pair for item in before.chosen if item.pair not in ranked) if before else ():
        candles = CandleStore(objects).read(market, pair, interval, from_ms, until_ms)
        if len(candles):
            volumes[pair] = float((candles.volume * (candles.open + candles.close) / 2).sum())
    return volumes


def _stored(objects: ObjectStore, key: str) -> Universe | None:
    """Read a stored choice; None where there is none, or one of another form."""
    found = objects.get(key)
    try:
        return Universe.model_validate_json(found.content) if found else None
    except ValidationError:
        return None


def _describe(universe: Universe) -> str:
    until = np.datetime64(universe.until_ms, "ms").item()
    listed = ", ".join(f"{item.pair} {item.quote_volume / 1e6:,.0f}" for item in universe.chosen)
    return (
        f"{len(universe.chosen)} pairs as of {until:%F}, with the million {QUOTE} of {universe.weeks} weeks: {listed}"
    )
