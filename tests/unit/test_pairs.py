from __future__ import annotations

import pytest

from make_us_rich.core.errors import InputError, UnknownPair
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import Pair


def test_a_pair_knows_both_spellings() -> None:
    pair = Pair.parse("btc_usdt")

    assert (pair.symbol, str(pair)) == ("BTCUSDT", "btc_usdt")


@pytest.mark.parametrize("text", ["", "btc", "BTC_USDT", "btc-usdt", "btc_usdt_1h", "btc_", "../etc", "b" * 99])
def test_what_is_no_pair_is_refused(text: str) -> None:
    with pytest.raises(UnknownPair, match="base_quote"):
        Pair.parse(text)


def test_the_last_close_is_at_or_before_the_moment() -> None:
    noon = 1_700_049_600_000 - 1_700_049_600_000 % HOUR_MS

    assert Interval.H1.last_close_ms(noon) == noon
    assert Interval.H1.last_close_ms(noon + 1) == noon
    assert Interval.H1.last_close_ms(noon - 1) == noon - HOUR_MS


def test_an_unknown_interval_names_the_known_ones() -> None:
    with pytest.raises(InputError, match="1h") as caught:
        Interval.parse("1hour")

    assert caught.value.field == "interval"


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("币安人生_usdt", "here names of pairs have only a to z and 0 to 9"),
        ("BTCUSDT", "write base_quote in lower case, btc_usdt"),
        ("btc/usdt", "write base_quote in lower case, btc_usdt"),
        ("btc_usdt ", "write base_quote in lower case, btc_usdt"),
    ],
)
def test_another_spelling_is_refused_with_the_true_reason(text: str, remedy: str) -> None:
    with pytest.raises(UnknownPair, match=remedy):
        Pair.parse(text)


def test_a_quote_of_one_letter_is_a_pair() -> None:
    assert Pair.parse("btc_u").symbol == "BTCU"
