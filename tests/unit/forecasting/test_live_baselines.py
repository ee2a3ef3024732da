"""The baseline forecasts that are served are those whose losses are scored."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from infra.exchange.simulated import FIRST_MS, simulate
from make_us_rich.core.errors import NotEnoughHistory
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.documents import HORIZON_GRID
from make_us_rich.forecasting.baselines import EWMA, PAST_CANDLES
from make_us_rich.forecasting.evaluation import pinball
from make_us_rich.forecasting.live_baselines import BASELINES, baseline_losses, newest_forecast
from make_us_rich.market.candles import Candles
from make_us_rich.market.recordings import read_klines
from make_us_rich.market.window import WINDOW_CANDLES
from tests.support.recorded_data import recorded


@pytest.mark.parametrize("name", BASELINES)
def test_the_newest_forecast_has_the_losses_that_are_scored(name: str) -> None:
    candles = simulate(FIRST_MS + 5000 * HOUR_MS)["ETHUSDT"][: PAST_CANDLES + 300]
    rows = range(PAST_CANDLES, PAST_CANDLES + 2 * 24, 9)
    actual = _actual(candles, rows)
    served = pinball(np.array([_forecast(candles[: row + 1], name) for row in rows]), actual)
    as_of_ms = candles.open_time_ms[list(rows)] + HOUR_MS
    scored = baseline_losses(candles, HOUR_MS, as_of_ms, actual)[:, :, BASELINES.index(name)]
    assert np.abs(served / scored - 1).max() < 1e-9


@pytest.mark.recorded("klines-1h")
def test_a_replicas_fewer_candles_change_the_forecast_little() -> None:
    """What docs/reference/api.md says of it: the volatility is the same, its quantile factors are of fewer returns."""
    widths = []
    for symbol in ("BTCUSDT", "ETHUSDT", "ADAUSDT", "DOGEUSDT", "XRPUSDT"):
        candles = read_klines(recorded("klines-1h") / f"{symbol}.parquet", Interval.H1)[-7400:]
        rows = range(4400, 7400 - HORIZON_GRID[-1], 23)
        scored, served = (
            np.array([_forecast(candles[max(0, row + 1 - count) : row + 1]) for row in rows])
            for count in (7400, WINDOW_CANDLES)
        )
        scored_loss, served_loss = (pinball(each, _actual(candles, rows)).mean() for each in (scored, served))
        assert served_loss == pytest.approx(scored_loss, rel=0.013), symbol
        widths.append((served[..., 5] - served[..., 1]) / (scored[..., 5] - scored[..., 1]))
    assert np.median(np.abs(np.array(widths) - 1)) == pytest.approx(0.04, abs=0.005)


def _forecast(candles: Candles, name: str = EWMA) -> np.ndarray:
    return newest_forecast(name, candles, HOUR_MS, HORIZON_GRID)


def _actual(candles: Candles, rows: Sequence[int]) -> np.ndarray:
    """Return the log returns [n, G] after the closes of these rows."""
    logs = np.log(candles.close)
    return np.array([[logs[row + horizon] - logs[row] for horizon in HORIZON_GRID] for row in rows])


def test_too_few_candles_before_the_day_are_refused_as_in_the_scoring() -> None:
    close = 100 * np.exp(np.cumsum(0.01 * np.random.default_rng(5).normal(size=530)))
    midnight_ms = 1_700_006_400_000
    candles = Candles(midnight_ms + HOUR_MS * np.arange(-501, 29), *[close] * 5)

    assert newest_forecast(EWMA, candles, HOUR_MS, (1, 24)).shape == (2, 7)
    for unusable in (candles[1:520], replace(candles, close=np.full(530, 100.0))):
        with pytest.raises(NotEnoughHistory, match="ewma needs 500"):
            newest_forecast(EWMA, unusable, HOUR_MS, (1,))
        as_of_ms = unusable.open_time_ms[-1:] + HOUR_MS
        losses = baseline_losses(unusable, HOUR_MS, as_of_ms, np.zeros((1, len(HORIZON_GRID))))
        assert np.isnan(losses).all()


def test_ewma_needs_no_pandas() -> None:
    program = (
        "import sys; sys.modules['pandas'] = sys.modules['torch'] = None\n"
        "import numpy as np\n"
        "from make_us_rich.forecasting.baselines import ewma\n"
        "print(ewma(np.ones(600) / 100, np.zeros(1)).shape)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(1, 1, 7)"
