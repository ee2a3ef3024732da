"""What a download says about its prices, away from the page that explains them."""

from __future__ import annotations

import csv

import pytest

from dash_app.pages.forecasts.downloads import CHAMPION, _csv, picture_title
from tests.unit.dash_app.forecast_documents import make_candles, make_forecast


@pytest.mark.parametrize(
    ("market", "said"),
    [("simulated", "simulated prices"), ("recorded", "recorded prices"), ("binance", "prices of binance")],
)
def test_a_picture_and_every_row_of_a_csv_name_the_market(market: str, said: str) -> None:
    made = make_forecast(100.0)
    flags = made.flags.model_copy(update={"simulated": market == "simulated"})
    forecast = made.model_copy(update={"market": market, "flags": flags})
    assert said in picture_title(forecast)
    rows = list(csv.DictReader(_csv({CHAMPION: forecast}, [], make_candles(100.0)).splitlines()))
    assert {row["market"] for row in rows} == {market}
