"""The foundation also learns from pairs that are not traded any more: otherwise it would know survivors alone."""

from __future__ import annotations

import pytest

from make_us_rich.core.errors import NotEnoughHistory
from make_us_rich.forecasting.recipe import FittedModel, fit_foundation
from make_us_rich.forecasting.training import TrainingTask
from make_us_rich.market.candles import Candles
from tests.unit.forecasting.random_candles import AS_OF_MS, LENGTH, SMALL, random_candles

BITCOIN, TRADED = random_candles(1), random_candles(2)
DELISTED = random_candles(3)[: LENGTH - SMALL.holdout - SMALL.validation - 50]


def _fit(**candles_by_pair: Candles) -> FittedModel:
    return fit_foundation(candles_by_pair, BITCOIN, TrainingTask(AS_OF_MS, SMALL))


def test_a_delisted_pair_is_learned_from_and_only_the_others_are_judged() -> None:
    alone, both = _fit(traded=TRADED), _fit(delisted=DELISTED, traded=TRADED)

    assert both.params["pairs"] == "delisted,traded"
    assert both.weights != alone.weights
    assert (both.holdout.target_open_ms == alone.holdout.target_open_ms).all()
    assert both.metrics["pinball_naive"] == alone.metrics["pinball_naive"]


def test_delisted_pairs_alone_train_nothing() -> None:
    with pytest.raises(NotEnoughHistory, match="no pair has enough history"):
        _fit(delisted=DELISTED)
