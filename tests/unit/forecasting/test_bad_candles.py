"""Bad candles end in a clear error or in a finite forecast, never in a wrong number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from make_us_rich.core.errors import BadCandles, NotEnoughHistory
from make_us_rich.core.interval import HOUR_MS
from make_us_rich.forecasting.export import run_onnx
from make_us_rich.forecasting.onnx_model import input_array
from make_us_rich.forecasting.recipe import fit
from make_us_rich.forecasting.training import TrainingTask
from make_us_rich.market.candles import Candles
from tests.unit.forecasting.random_candles import AS_OF_MS, SMALL, START_MS, random_candles, without

OWN, BITCOIN = random_candles(6), random_candles(7, price=30_000.0)
HALTED_FROM, RESUMED = 1085, 1085 + 7467  # hours after the first candle


def fit_small(candles: Candles, reference: Candles = BITCOIN, as_of_ms: int = AS_OF_MS) -> dict[str, float]:
    return fit(candles, reference, pair="eth_usdt", task=TrainingTask(as_of_ms, SMALL)).metrics


def test_too_few_candles_are_refused() -> None:
    with pytest.raises(NotEnoughHistory, match="fetch more history"):
        fit_small(OWN[-600:])
    with pytest.raises(NotEnoughHistory, match="too young"):
        fit_small(OWN[-1200:])
    with pytest.raises(NotEnoughHistory, match="no closed candle"):
        fit_small(OWN, as_of_ms=int(OWN.open_time_ms[0]))


def test_impossible_prices_are_refused() -> None:
    for bad in (np.nan, np.inf, 0.0, -1.0):
        close = OWN.close.copy()
        close[1500] = bad
        with pytest.raises(BadCandles, match="finite and positive"):
            fit_small(replace(OWN, close=close))


def test_reference_prices_are_checked_too() -> None:
    close = BITCOIN.close.copy()
    close[1500] = np.nan
    with pytest.raises(BadCandles, match="btc_usdt"):
        fit_small(OWN, replace(BITCOIN, close=close))


def test_impossible_volumes_are_refused() -> None:
    volume = OWN.volume.copy()
    volume[1500] = np.nan
    with pytest.raises(BadCandles, match="volumes"):
        fit_small(replace(OWN, volume=volume))


def test_a_price_that_never_moves_is_refused() -> None:
    still = np.full(len(OWN), 5.0)
    with pytest.raises(BadCandles, match="never moves"):
        fit_small(Candles(OWN.open_time_ms, still, still, still, still, OWN.volume))


def test_candles_without_volume_are_refused() -> None:
    with pytest.raises(BadCandles, match="no volume"):
        fit_small(replace(OWN, volume=np.zeros(len(OWN))))


def test_candles_out_of_order_are_refused() -> None:
    with pytest.raises(BadCandles, match="rise"):
        fit_small(OWN[np.arange(len(OWN))[::-1].copy()])


def test_two_weeks_without_trades_give_finite_metrics() -> None:
    quiet = slice(1400, 1736)
    columns = {name: getattr(OWN, name).copy() for name in ("open", "high", "low", "close")}
    for values in columns.values():
        values[quiet] = OWN.close[1399]
    volume = OWN.volume.copy()
    volume[quiet] = 0.0
    measured = fit_small(Candles(OWN.open_time_ms, **columns, volume=volume))
    assert all(np.isfinite(value) for value in measured.values())


def test_an_extreme_wick_does_not_spoil_later_forecasts() -> None:
    low = OWN.low.copy()
    low[2150] = 1e-4
    calm, wild = fit_small(OWN), fit_small(replace(OWN, low=low))
    assert wild["pinball"] < 1.5 * calm["pinball"]
    assert wild["coverage_80"] == pytest.approx(calm["coverage_80"], abs=0.15)


def test_candles_off_the_grid_are_refused() -> None:
    times = OWN.open_time_ms.copy()
    times[1500] += 60_000
    with pytest.raises(BadCandles, match="on the grid"):
        fit_small(replace(OWN, open_time_ms=times))


def test_forecasts_after_the_wick_of_march_2020_are_plausible() -> None:
    """The price falls by half and its low is once a ten-thousandth of a dollar, as LINKUSDT's was."""
    link, wick = random_candles(8, 1100, price=4.0), 630
    for name in ("open", "high", "low", "close"):
        getattr(link, name)[wick:] *= 0.55
    link.low[wick] = 1e-4
    graph = fit(OWN, BITCOIN, pair="link_usdt", task=TrainingTask(AS_OF_MS, SMALL)).onnx
    for end in range(wick + 101, len(link), 24):  # the wick is in every window
        window = input_array(link[:end], 728)
        _, returns = run_onnx(graph, {"candles": window, "reference": window})
        widths = returns[0, :, -1] - returns[0, :, 0]
        assert 0.001 < widths[0] <= widths[-1] < 1.0


@pytest.mark.parametrize("hours", [HALTED_FROM + 1123, RESUMED + 544])
def test_a_halted_market_is_refused(hours: int) -> None:
    """FTTUSDT was halted from November 2022 for 311 days: during the halt, and three weeks after it."""
    halted = without(random_candles(9, RESUMED + 544), HALTED_FROM, RESUMED - HALTED_FROM)
    bitcoin = random_candles(7, RESUMED + 544, price=30_000.0)
    with pytest.raises(NotEnoughHistory, match=r"halted|long gap"):
        fit_small(halted, bitcoin, START_MS + hours * HOUR_MS)
