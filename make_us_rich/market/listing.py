"""The exchange's list of traded pairs, over plain HTTP: the dashboard's installation has no client of the exchange."""

from __future__ import annotations

import re
from http import HTTPStatus

from make_us_rich.core.errors import BadCandles, MarketUnavailable, PairNotTraded
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import SLUG, Pair
from make_us_rich.core.responses import UNEXPECTED
from make_us_rich.market import limited_http
from make_us_rich.market.candles import clean, from_klines
from make_us_rich.market.stability import why_too_stable

_TIMEOUT_S = 10.0
_CHECKED_CANDLES, _FEWEST_CANDLES = 500, 48  # hours by which a pair is checked; a younger one is not


def traded_pairs(exchange_url: str) -> set[Pair]:
    """Return the pairs that are traded now. Binance's answer has megabytes. Raises MarketUnavailable."""
    answer = limited_http.get(f"{exchange_url.rstrip('/')}/api/v3/exchangeInfo", timeout_s=_TIMEOUT_S)
    if answer.status_code != HTTPStatus.OK:
        raise MarketUnavailable(f"the exchange cannot be asked for its pairs: it answers {answer.status_code}")
    try:
        symbols = answer.json()["symbols"]
        names = [f"{item['baseAsset']}_{item['quoteAsset']}".lower() for item in symbols if item["status"] == "TRADING"]
    except UNEXPECTED as error:
        raise MarketUnavailable(f"the exchange cannot be asked for its pairs: {type(error).__name__}") from None
    return {Pair.parse(name) for name in names if re.fullmatch(SLUG, name)}


def check_traded(exchange_url: str, pair: Pair) -> None:
    """Raise PairNotTraded, MarketUnavailable, or BadCandles for a pair that hardly moves, unless it can be forecast.

    When the exchange gives its list but no candles, the pair passes: its training looks at them again.
    """
    if pair not in traded_pairs(exchange_url):
        raise PairNotTraded(f"the exchange does not trade {pair}")
    query = f"symbol={pair.symbol}&interval={Interval.H1}&limit={_CHECKED_CANDLES}"
    try:
        answer = limited_http.get(f"{exchange_url.rstrip('/')}/api/v3/klines?{query}", timeout_s=_TIMEOUT_S)
        candles, _ = clean(from_klines(answer.json()), Interval.H1)
    except (MarketUnavailable, BadCandles, *UNEXPECTED):
        return
    stable = why_too_stable(candles, Interval.H1.ms)
    if stable and len(candles) >= _FEWEST_CANDLES:
        raise BadCandles(f"{pair} {stable}", field="pair")
