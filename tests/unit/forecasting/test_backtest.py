"""The backtest: its table and summary, checked against the candles."""

from __future__ import annotations

import numpy as np
import pytest

from make_us_rich.core.distribution import DEFAULT_TAIL
from make_us_rich.core.errors import NotEnoughHistory
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.documents import QUANTILE_NAMES
from make_us_rich.forecasting.backtest import (
    BASELINES,
    MODEL,
    WindowResult,
    backtest_window,
    forecasts_table,
    summarise,
)
from make_us_rich.forecasting.evaluation import holdout_forecasts
from make_us_rich.forecasting.probabilities import score_probabilities
from make_us_rich.forecasting.report import html_report, table
from tests.unit.forecasting.random_candles import SMALL, START_MS, random_candles

pytestmark = pytest.mark.slow

WINDOW = 168
HORIZONS = (1, 24)
MARKETS = {
    "btc_usdt": random_candles(10, price=30_000.0),
    "eth_usdt": random_candles(11),
    "new_usdt": random_candles(12)[-400:],
}
STARTS_MS = [START_MS + hours * HOUR_MS for hours in (1800, 2000)]


@pytest.fixture(scope="module")
def results() -> list[WindowResult]:
    return [
        result
        for start_ms in STARTS_MS
        for result in backtest_window(
            MARKETS,
            MARKETS["btc_usdt"],
            interval=Interval.H1,
            start_ms=start_ms,
            config=SMALL,
            window=WINDOW,
            horizons=HORIZONS,
        )
    ]


def test_every_pair_with_history_is_in_every_window(results: list[WindowResult]) -> None:
    assert [(item.pair, item.start_ms) for item in results] == [
        (pair, start_ms) for start_ms in STARTS_MS for pair in ("btc_usdt", "eth_usdt")
    ]
    for item in results:
        assert set(item.forecasts) == set(HORIZONS)
        assert 0.1 < item.inside_throughout < 0.9
        for horizon, models in item.forecasts.items():
            assert set(models) == {MODEL, *BASELINES}
            for forecast in models.values():
                assert forecast.target_open_ms[0] == item.start_ms
                assert len(forecast.target) == WINDOW - horizon + 1  # later targets are not known yet
                assert (np.diff(forecast.quantiles, axis=1) >= 0).all()


def test_untrained_pairs_alone_are_scored_by_a_foundation_of_the_others(results: list[WindowResult]) -> None:
    (only,) = backtest_window(
        MARKETS,
        MARKETS["btc_usdt"],
        interval=Interval.H1,
        start_ms=STARTS_MS[0],
        config=SMALL,
        window=WINDOW,
        untrained=["eth_usdt"],
        horizons=[1],
    )
    assert (only.pair, only.curves) == ("eth_usdt", []), "nothing was trained on it"
    ours, theirs = only.forecasts[1][MODEL], results[1].forecasts[1][MODEL]
    assert len(ours.target) == len(theirs.target)
    assert not np.array_equal(ours.quantiles, theirs.quantiles)


def test_the_table_has_the_actual_closes(results: list[WindowResult]) -> None:
    rows = forecasts_table(results, MARKETS, Interval.H1, "lstm").to_pylist()
    assert len(rows) == 2 * 2 * sum(WINDOW - horizon + 1 for horizon in HORIZONS) * (1 + len(BASELINES))
    closes = dict(zip(MARKETS["eth_usdt"].open_time_ms.tolist(), MARKETS["eth_usdt"].close, strict=True))
    for row in [row for row in rows if row["pair"] == "eth_usdt"][:: WINDOW // 3]:
        target_ms = row["target_open_ms"] + (row["horizon"] - 1) * HOUR_MS
        assert row["close"] == pytest.approx(closes[target_ms], rel=1e-5)
        assert row["last_close"] == closes[row["target_open_ms"] - HOUR_MS]
        prices = [row[name] for name in QUANTILE_NAMES]
        assert prices == sorted(prices)
        assert row["made_at"].timestamp() * 1000 == row["target_open_ms"]


def test_summary_of_a_forecast_that_is_twice_as_good() -> None:
    target = np.random.default_rng(1).standard_normal(500)
    times = np.arange(500, dtype=np.int64) * HOUR_MS
    good = holdout_forecasts(times, np.zeros((500, 1, 7)), target[:, None]).at(1)
    half = holdout_forecasts(times, np.repeat(target[:, None, None] / 2, 7, axis=2), target[:, None]).at(1)
    probabilities = score_probabilities(half, np.array(DEFAULT_TAIL), good, scale=1.0)
    models = {MODEL: half, **dict.fromkeys(BASELINES, good)}
    result = WindowResult("eth_usdt", 0, {1: models}, {1: probabilities}, None, [])
    (summary,) = summarise([result]).horizons
    assert summary.skills[0].skill == pytest.approx(0.5)
    assert summary.skills[0].won == 1.0
    assert summary.skills[0].t > 5
    assert summary.mae_gain == pytest.approx(0.5)
    assert summary.direction == 1.0
    with pytest.raises(NotEnoughHistory):
        summarise([])


def test_the_report_is_one_file(results: list[WindowResult]) -> None:
    text, page = table(summarise(results)), html_report(results, MARKETS, Interval.H1)
    assert "GARCH(1,1)-t" in text
    assert "24 candles" in text
    assert "stay inside the 80 % band throughout" in text
    assert page.count("data:image/png;base64,") == 5
    assert "http" not in page
