"""The steps that training reports."""

from __future__ import annotations

from infra.exchange.simulated import simulate
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.forecasting.architectures import TrainingConfig
from make_us_rich.forecasting.recipe import fit
from make_us_rich.forecasting.training import TrainingTask

AS_OF_MS = Interval.H1.last_close_ms(1_790_000_000_000)


def test_training_reports_its_steps_in_order() -> None:
    bitcoin = simulate(AS_OF_MS)["BTCUSDT"]
    recent = bitcoin[bitcoin.open_time_ms >= AS_OF_MS - 2500 * HOUR_MS]
    config = TrainingConfig(hidden=4, epochs=1, validation=200, holdout=200)
    steps: list[str] = []

    fit(recent, recent, pair="btc_usdt", task=TrainingTask(AS_OF_MS, config, on_step=steps.append))

    assert steps == ["features", "sequences", "split", "scale", "train", "convert", "validate"]
