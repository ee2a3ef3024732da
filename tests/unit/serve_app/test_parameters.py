"""What callers ask of a forecast: lists of horizons, and probabilities of prices."""

from __future__ import annotations

import math

import pytest

from make_us_rich.core.errors import InputError
from make_us_rich.core.interval import HOUR_MS
from make_us_rich.core.settings import Settings
from make_us_rich.documents import Forecast
from serve_app.api.dependencies import parse_horizons
from serve_app.api.openapi import EXAMPLES
from serve_app.api.parameters import PriceQuestion
from tests.support.forecasts import make_forecast


def ask(forecast: Forecast, horizon: int = 1, **question: float | str) -> float:
    given: dict[str, float | str | None] = {"above": None, "below": None, "between": None}
    return PriceQuestion.parse(**given | question).answer(forecast, horizon).probability


@pytest.fixture
def forecast() -> Forecast:
    return make_forecast("btc_usdt", as_of_ms=HOUR_MS).document(Settings(), now_ms=HOUR_MS)


@pytest.mark.parametrize(
    ("text", "horizons"),
    [("all", None), ("1", (1,)), ("24,1,8", (1, 8, 24)), ("4,4,1,4", (1, 4)), (",".join(["7"] * 9000), (7,))],
)
def test_a_list_of_horizons(text: str, horizons: tuple[int, ...] | None) -> None:
    assert parse_horizons(text) == horizons


@pytest.mark.parametrize("text", ["", ",", "1,", "0", "25", "-1", "1.5", "one", "1,ALL", "01", "1 ,4", "٤", "9" * 5000])
def test_what_is_no_list_of_horizons(text: str) -> None:
    with pytest.raises(InputError, match=r"is no horizon: name candles ahead from 1 to 24") as caught:
        parse_horizons(text)
    assert caught.value.field == "horizons"


def test_the_probabilities_of_a_quantile_and_of_its_complement(forecast: Forecast) -> None:
    quantiles = forecast.at(8).quantiles
    assert ask(forecast, 8, below=quantiles.q90) == pytest.approx(0.9)
    assert ask(forecast, 8, above=quantiles.q90) == pytest.approx(0.1)
    assert ask(forecast, 8, between=f"{quantiles.q10!r},{quantiles.q90!r}") == pytest.approx(0.8)
    assert ask(forecast, 1, below=quantiles.q90) > 0.95, "the band is narrower 1 candle ahead"


@pytest.mark.parametrize("price", [5e-324, 1e-300, 1.0, 1e12])
def test_no_price_is_impossible_or_certain(forecast: Forecast, price: float) -> None:
    low, high = sorted((ask(forecast, 24, above=price), ask(forecast, 24, below=price)))
    assert (low, high) == (1e-6, 0.999999)
    assert ask(forecast, between="1e-300,2e-300") == 1e-6
    assert ask(forecast, between="1e11,1e12") == 1e-6
    assert ask(forecast, between="1e-300,1e12") == 0.999999


def test_the_examples_belong_together() -> None:
    example, probability = Forecast.model_validate(EXAMPLES["Forecast"]), EXAMPLES["Probability"]
    answer = PriceQuestion.parse(above=probability["above"], below=None, between=None)
    assert answer.answer(example, probability["horizon"]).model_dump() == probability
    for item in example.horizons:
        assert item.target_close_ms == example.as_of_ms + item.horizon * HOUR_MS
        if item.probability_up is not None:
            assert 1 - item.probability_below(example.last_close) == pytest.approx(item.probability_up, abs=0.01)
        assert item.volatility == pytest.approx(1.25 * item.expected_move * math.sqrt(8760 / item.horizon), rel=0.2)
    assert example.at(1).quantiles == example.quantiles
