"""A pair without a model of its own is forecast by a foundation that is adapted to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from make_us_rich.core.errors import BadModel, NotEnoughHistory
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.forecasting.architectures import from_npz
from make_us_rich.forecasting.dataset import prepare
from make_us_rich.forecasting.evaluation import coverage
from make_us_rich.forecasting.export import metadata_of
from make_us_rich.forecasting.networks import ScaledQuantiles
from make_us_rich.forecasting.onnx_model import META_PAIR, OnnxModel
from make_us_rich.forecasting.recipe import FOUNDATION, FittedModel, adapt_foundation, evaluate_model, fit_foundation
from make_us_rich.forecasting.training import TrainingTask
from make_us_rich.market.candles import Candles
from tests.unit.forecasting.random_candles import AS_OF_MS, BITCOIN, LENGTH, OWN, SMALL

LEARNED_AS_OF_MS = AS_OF_MS - 200 * HOUR_MS


@pytest.fixture(scope="module")
def foundation() -> FittedModel:
    """Return a foundation of one calm pair."""
    return fit_foundation({"btc_usdt": BITCOIN}, BITCOIN, TrainingTask(LEARNED_AS_OF_MS, SMALL))


def _adapted(foundation: FittedModel, candles: Candles) -> FittedModel:
    return adapt_foundation(candles, BITCOIN, TrainingTask(AS_OF_MS, SMALL), foundation=foundation.weights)


def _tripled(candles: Candles, first: int = 0) -> Candles:
    """Multiply the log moves of the candles from `first` on by three."""
    logs = np.log(np.stack([candles.open, candles.high, candles.low, candles.close]))
    start = logs[0, first]
    logs[:, first:] = start + 3 * (logs[:, first:] - start)
    return Candles(candles.open_time_ms, *np.exp(logs), candles.volume)


def test_its_bands_hold_the_pair_that_it_is_adapted_to(foundation: FittedModel) -> None:
    """The features of a halted hour are those of a calm one, so its moves have another size than their features say."""
    jumpy = replace(OWN, high=np.maximum(OWN.open, OWN.close), low=np.minimum(OWN.open, OWN.close))
    prepared = prepare(jumpy, BITCOIN, TrainingTask(AS_OF_MS, SMALL))
    before = evaluate_model(foundation.onnx, prepared, interval=Interval.H1).at(1)

    after = _adapted(foundation, jumpy).holdout.at(1)

    assert len(after.target) == len(before.target) == SMALL.holdout
    assert coverage(after.quantiles, after.target, 0.8) == pytest.approx(0.8, abs=0.08)
    assert abs(coverage(after.quantiles, after.target, 0.8) - 0.8) < abs(
        coverage(before.quantiles, before.target, 0.8) - 0.8
    )
    assert after.losses.mean() < before.losses.mean()


def test_it_trains_no_weight_and_stays_a_foundation(foundation: FittedModel) -> None:
    adapted = _adapted(foundation, OWN)

    assert metadata_of(adapted.onnx)[META_PAIR] == FOUNDATION
    own, shared = (
        OnnxModel.load(model.onnx, "foundation_1h").quantiles(OWN, BITCOIN) for model in (adapted, foundation)
    )
    assert own.shape == (24, 7)
    assert not np.array_equal(own, shared)
    ours, theirs = (from_npz(model.weights, SMALL, AS_OF_MS) for model in (adapted, foundation))
    changed = {
        name for name, value in ours.state_dict().items() if not np.array_equal(value, theirs.state_dict()[name])
    }
    assert changed <= {"intercept", "calibration", "tail"}
    assert isinstance(ours, ScaledQuantiles)


def test_it_sees_no_candle_that_closed_after_its_time(foundation: FittedModel) -> None:
    later, newest = _tripled(OWN, LENGTH), _tripled(OWN, LENGTH - SMALL.holdout - 30)

    assert _adapted(foundation, later).onnx == _adapted(foundation, OWN).onnx
    assert _adapted(foundation, newest).onnx != _adapted(foundation, OWN).onnx
    with pytest.raises(BadModel, match="have seen candles up to"):
        adapt_foundation(OWN, BITCOIN, TrainingTask(LEARNED_AS_OF_MS - 1, SMALL), foundation=foundation.weights)


def test_it_needs_less_history_than_training(foundation: FittedModel) -> None:
    needed = 719 + SMALL.length + SMALL.validation + SMALL.holdout + 24
    young = OWN[LENGTH - needed : LENGTH]

    assert _adapted(foundation, young).params["train_rows"] == SMALL.validation
    with pytest.raises(NotEnoughHistory, match="to train on, 168 needed"):
        _adapted(foundation, young[1:])
    with pytest.raises(NotEnoughHistory):
        prepare(young, BITCOIN, TrainingTask(AS_OF_MS, SMALL))
