"""What people type as numbers and pairs: it is read as they mean it, or refused."""

from __future__ import annotations

import pytest

from dash_app.components.entries import pair_slug, read_number


@pytest.mark.parametrize(
    ("typed", "number"),
    [
        ("90000.5", 90_000.5),
        ("90000,5", 90_000.5),
        ("90,000.5", 90_000.5),
        ("90.000,5", 90_000.5),
        ("1.234.567,", 1_234_567),
        ("90\u202f000,5", 90_000.5),
        ("90'000.5", 90_000.5),
        (" 90,000 ", 90_000),
        ("1,234,567", 1_234_567),
        ("1e5", 100_000),
        ("1.5E-3", 0.0015),
        ("1,5e3", 1500),
        ("0,500", 0.5),
        (".5", 0.5),
        ("5.", 5),
        ("0", 0),
    ],
)
def test_a_number_is_read_in_each_spelling_with_one_meaning(typed: str, number: float) -> None:
    assert read_number(typed) == pytest.approx(number)


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "-",
        ".",
        ",",
        "90,00,5",
        "90,000,5",
        "9 0000",
        "90.000.5",
        "1e",
        "1e400",
        "9" * 400,
        "90k",
        "-5",
        "1_000",
        "٩",
        "nan",
        "inf",
        "0x10",
    ],
)
def test_a_number_with_another_or_no_meaning_is_refused(typed: str) -> None:
    assert read_number(typed) is None


@pytest.mark.parametrize("typed", ["btc_usdt", "BTC/USDT", "BTC / USDT", " btc-usdt ", "Btc_Usdt"])
def test_a_pair_is_read_in_the_spelling_of_the_pages(typed: str) -> None:
    assert pair_slug(typed) == "btc_usdt"


@pytest.mark.parametrize("typed", ["", "BTC", "<b>", "a/b/c"])
def test_what_is_no_pair_stays_as_it_was_typed(typed: str) -> None:
    assert pair_slug(typed) == typed
