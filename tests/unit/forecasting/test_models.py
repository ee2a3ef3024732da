"""Every architecture keeps the contract: one graph, raw candles in, ascending quantiles out."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from make_us_rich.core.errors import BadModel, InputError
from make_us_rich.core.interval import Interval
from make_us_rich.documents import HORIZONS
from make_us_rich.forecasting import onnx_model
from make_us_rich.forecasting.architectures import ARCHITECTURES, from_npz
from make_us_rich.forecasting.export import metadata_of, run_onnx
from make_us_rich.forecasting.features import feature_layout
from make_us_rich.forecasting.networks import lstm
from make_us_rich.forecasting.recipe import FOUNDATION, FittedModel, fit, fit_foundation
from make_us_rich.forecasting.training import TrainingTask
from tests.unit.forecasting.random_candles import AS_OF_MS, BITCOIN, OWN, SMALL, random_candles


@pytest.fixture(scope="module", params=ARCHITECTURES)
def fitted(request: pytest.FixtureRequest, fitted_pair: FittedModel) -> FittedModel:
    if request.param == SMALL.architecture:
        return fitted_pair
    config = replace(SMALL, architecture=request.param)
    return fit(OWN, BITCOIN, pair="eth_usdt", task=TrainingTask(AS_OF_MS, config))


def test_the_graph_keeps_the_contract(fitted: FittedModel) -> None:
    graph = onnx.load_from_string(fitted.onnx)
    assert [item.name for item in graph.graph.input] == ["candles", "reference"]
    assert [item.name for item in graph.graph.output] == ["quantiles", "log_returns"]
    props = metadata_of(fitted.onnx)
    assert props[onnx_model.META_PAIR] == "eth_usdt"
    assert props[onnx_model.META_AS_OF_MS] == str(AS_OF_MS)
    assert props[onnx_model.META_ARCHITECTURE] == fitted.params["architecture"]
    assert json.loads(props[onnx_model.META_COLUMNS]) == onnx_model.COLUMN_UNITS
    assert graph.doc_string == onnx_model.DESCRIPTION
    context = int(props[onnx_model.META_CONTEXT_LENGTH])
    own = onnx_model.input_array(OWN, context)
    prices, returns = run_onnx(fitted.onnx, {"candles": own, "reference": onnx_model.input_array(BITCOIN, context)})
    horizons = 1 if fitted.params["architecture"] == "level_mse" else HORIZONS
    assert prices.shape == returns.shape == (1, horizons, 7)
    assert prices == pytest.approx(own[:, -1, 3] * np.exp(returns), rel=1e-5)
    model = onnx_model.OnnxModel.load(fitted.onnx, "eth_usdt_1h")
    assert model.horizons == horizons
    assert model.quantiles(OWN, BITCOIN) == pytest.approx(prices[0])  # which checks them too


def test_the_batch_size_does_not_change_a_forecast(fitted: FittedModel) -> None:
    length = int(metadata_of(fitted.onnx)[onnx_model.META_CONTEXT_LENGTH])
    one = {
        name: onnx_model.input_array(candles, length) for name, candles in (("candles", OWN), ("reference", BITCOIN))
    }
    three = {name: np.repeat(array, 3, axis=0) for name, array in one.items()}
    assert run_onnx(fitted.onnx, three)[1] == pytest.approx(np.repeat(run_onnx(fitted.onnx, one)[1], 3, 0), rel=1e-5)


def test_weights_are_restored_without_pickle(fitted: FittedModel) -> None:
    config = replace(SMALL, architecture=str(fitted.params["architecture"]))
    network = from_npz(fitted.weights, config, AS_OF_MS)
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())
    with pytest.raises(BadModel, match="may know only"):
        from_npz(fitted.weights, config, AS_OF_MS - 1)
    with pytest.raises(BadModel, match="start from"):
        from_npz(fitted.weights[:100], config, AS_OF_MS)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.floats(0.1, 30))
def test_quantiles_never_cross_and_never_come_closer_with_the_horizon(seed: int, size: float) -> None:
    """Also of a network with random weights."""
    torch.manual_seed(seed)
    layout = feature_layout(Interval.H1)
    network = lstm(layout, 4, 8).eval()
    for buffer in (network.deviation, network.sequence_deviation):
        buffer.fill_(1.0)
    for parameter in (network.head.weight, network.share, network.widening.weight, network.constant):
        parameter.data.normal_(0, size)
    sequence, static = torch.randn(16, 8, layout.sequence_size) * size, torch.randn(16, layout.static_size) * size
    quantiles = network(sequence, static)
    assert quantiles.shape == (16, HORIZONS, 7)
    assert (quantiles.diff(dim=2) >= 0).all()
    widths = quantiles.flip(2)[..., :3] - quantiles[..., :3]
    assert (widths.diff(dim=1) >= -1e-5 * widths[:, 1:].abs()).all()


def test_calibration_moves_quantiles_towards_their_levels(fitted_pair: FittedModel) -> None:
    network = from_npz(fitted_pair.weights, SMALL, AS_OF_MS)
    assert network.calibration.abs().max() > 0


def test_a_foundation_model_serves_any_pair_and_starts_fine_tuning() -> None:
    markets = {"ada_usdt": OWN, "btc_usdt": BITCOIN, "new_usdt": random_candles(5)[-300:]}
    shared = fit_foundation(markets, BITCOIN, TrainingTask(AS_OF_MS, SMALL))
    assert metadata_of(shared.onnx)[onnx_model.META_PAIR] == FOUNDATION
    assert shared.params["pairs"] == "ada_usdt,btc_usdt"
    assert shared.metrics["holdout_candles"] == 2 * SMALL.holdout
    tuned = fit(OWN, BITCOIN, pair="ada_usdt", task=TrainingTask(AS_OF_MS, SMALL), foundation=shared.weights)
    assert tuned.params["start"] == "weights"
    assert tuned.onnx != shared.onnx
    assert np.abs(tuned.holdout.quantiles).max() < 0.2


def test_an_unknown_architecture_is_named() -> None:
    with pytest.raises(InputError, match="lstm, gru") as caught:
        fit(OWN, BITCOIN, pair="eth_usdt", task=TrainingTask(AS_OF_MS, replace(SMALL, architecture="oracle")))
    assert caught.value.field == "architecture"
