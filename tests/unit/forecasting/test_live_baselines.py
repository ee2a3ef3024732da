"""The EWMA forecast that is served is the one whose losses are scored."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from make_us_rich.core.errors import NotEnoughHistory
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.documents import HORIZON_GRID
from make_us_rich.forecasting.evaluation import pinball
from make_us_rich.forecasting.live_baselines import BASELINES, baseline_losses, ewma_forecast
from make_us_rich.market.candles import Candles
from make_us_rich.market.recordings import read_klines
from make_us_rich.market.window import WINDOW_CANDLES
from tests.support.recorded_data import DATA, needs_recorded_data

_EWMA = BASELINES.index("ewma")


def _losses_at(candles: Candles, rows: Sequence[int], *, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the losses [n, G] of the served and of the scored forecast as of the closes of these rows."""
    logs = np.log(candles.close)
    actual = np.array([[logs[row + horizon] - logs[row] for horizon in HORIZON_GRID] for row in rows])
    served = [ewma_forecast(candles[max(0, row + 1 - window) : row + 1], HOUR_MS, HORIZON_GRID) for row in rows]
    as_of_ms = candles.open_time_ms[list(rows)] + HOUR_MS
    scored = baseline_losses(candles, HOUR_MS, as_of_ms, actual)[:, :, _EWMA]
    return pinball(np.array(served), actual), scored


@needs_recorded_data
def test_the_served_ewma_forecast_has_the_losses_that_are_scored() -> None:
    candles = read_klines(DATA / "klines-1h" / "ETHUSDT.parquet", Interval.H1)[-2400:]
    rows = range(2160, 2160 + 3 * 24, 5)
    served, scored = _losses_at(candles, rows, window=10_000)
    assert np.abs(served / scored - 1).max() < 1e-9

    # a replica has fewer candles: the volatility is the same, its quantile factors are of fewer returns
    served, scored = _losses_at(candles, rows, window=WINDOW_CANDLES)
    print(f"{served.mean() / scored.mean() - 1:+.2%}, one by one up to {np.abs(served / scored - 1).max():.1%}")
    assert served.mean() == pytest.approx(scored.mean(), rel=0.01)


def test_too_few_candles_before_the_day_are_refused_as_in_the_scoring() -> None:
    close = 100 * np.exp(np.cumsum(0.01 * np.random.default_rng(5).normal(size=530)))
    midnight_ms = 1_700_006_400_000
    candles = Candles(midnight_ms + HOUR_MS * np.arange(-501, 29), *[close] * 5)

    assert ewma_forecast(candles, HOUR_MS, (1, 24)).shape == (2, 7)
    for unusable in (candles[1:520], replace(candles, close=np.full(530, 100.0))):
        with pytest.raises(NotEnoughHistory, match="EWMA needs 500"):
            ewma_forecast(unusable, HOUR_MS, (1,))
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
