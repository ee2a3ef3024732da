from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from make_us_rich.core.errors import BadModel, NotEnoughHistory
from make_us_rich.core.interval import HOUR_MS
from make_us_rich.documents import HORIZONS
from make_us_rich.forecasting.onnx_model import META_TAILS, OnnxModel, check_quantiles
from make_us_rich.market.candles import Candles
from tests.support.tiny_model import LOG_RETURNS, tiny_model

BTC = "btc_usdt_1h"


def flat_candles(n: int, price: float = 100.0) -> Candles:
    column = np.full(n, price)
    return Candles(np.arange(n) * HOUR_MS, column, column, column, column, column)


def test_quantiles_are_prices_around_the_last_close() -> None:
    model = OnnxModel.load(tiny_model("btc_usdt"), BTC)
    prices = model.quantiles(flat_candles(30), flat_candles(30))
    assert prices.shape == (HORIZONS, 7)
    np.testing.assert_allclose(prices[0], 100 * np.exp(LOG_RETURNS), rtol=1e-6)
    np.testing.assert_allclose(prices[23], 100 * np.exp(24**0.5 * np.array(LOG_RETURNS)), rtol=1e-6)


def test_a_model_of_the_first_contract_keeps_forecasting_the_next_close() -> None:
    model = OnnxModel.load(tiny_model("btc_usdt", horizons=0), BTC)
    prices = model.quantiles(flat_candles(30), flat_candles(30))
    assert model.horizons == 1
    np.testing.assert_allclose(prices, [100 * np.exp(LOG_RETURNS)], rtol=1e-6)


def test_a_graph_without_the_tails_of_its_horizons_is_refused() -> None:
    model = onnx.load_from_string(tiny_model("btc_usdt"))
    for item in model.metadata_props:
        if item.key == META_TAILS:
            item.value = "[[0.3, 0.1]]"
    with pytest.raises(BadModel, match=r"24 horizons and tails of shape \(1, 2\)"):
        OnnxModel.load(model.SerializeToString(), BTC)


@pytest.mark.parametrize("tail", [[-3.0, 0.1], [0.0, 0.1], [1e308, 0.1], [0.3, -0.1], [0.3, 1e308]])
def test_a_graph_with_impossible_tails_is_refused(tail: list[float]) -> None:
    model = onnx.load_from_string(tiny_model("btc_usdt"))
    for item in model.metadata_props:
        if item.key == META_TAILS:
            item.value = json.dumps([[0.35, 0.15]] * (HORIZONS - 1) + [tail])
    with pytest.raises(BadModel, match="tails"):
        OnnxModel.load(model.SerializeToString(), BTC)


def test_a_graph_whose_number_of_horizons_is_unknown_is_refused() -> None:
    """ONNX Runtime cannot know how many rows the graph cuts off."""
    model = onnx.load_from_string(tiny_model("btc_usdt"))
    graph = model.graph
    graph.node[-1].output[0] = "all"
    values = {"count": np.array([HORIZONS], np.float32), "from": np.array([0]), "along": np.array([1])}
    graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in values.items())
    graph.node.extend(
        [
            helper.make_node("ReduceSum", ["nothing"], ["sum"], keepdims=0),
            helper.make_node("Add", ["sum", "count"], ["rows"]),
            helper.make_node("Cast", ["rows"], ["until"], to=onnx.TensorProto.INT64),
            helper.make_node("Slice", ["all", "from", "until", "along"], ["quantiles"]),
        ]
    )
    graph.output[0].type.tensor_type.shape.dim[1].dim_param = "horizons"
    with pytest.raises(BadModel, match="number of horizons"):
        OnnxModel.load(model.SerializeToString(), BTC)


def test_a_band_that_shrinks_with_the_horizon_is_refused() -> None:
    prices = 100 * np.exp(np.outer([2.0, 1.9], LOG_RETURNS))
    with pytest.raises(BadModel, match="2 candles ahead are closer together"):
        check_quantiles(prices, 100.0)


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (b"not a model", "does not load"),
        (tiny_model("eth_usdt"), "made for eth_usdt_1h, not for btc_usdt_1h"),
        (tiny_model("btc_usdt", interval="4h"), "made for btc_usdt_4h, not"),
    ],
)
def test_a_graph_of_another_pair_or_no_graph_is_refused(graph: bytes, reason: str) -> None:
    with pytest.raises(BadModel, match=reason):
        OnnxModel.load(graph, BTC)


@pytest.mark.parametrize("location", ["secrets.json", "elsewhere/../secrets.json", "../secrets.json"])
def test_a_graph_reads_no_file(location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    secrets = tmp_path / location
    secrets.write_text("S" * 1000)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadModel, match=r"does not load.*External data"):
        OnnxModel.load(_with_weights_in(location), BTC)


def _with_weights_in(location: str) -> bytes:
    """Return a model that reads its log returns from a file."""
    rows = 5  # ONNX Runtime refuses fewer by itself
    model = onnx.load_from_string(tiny_model("btc_usdt"))
    table = onnx.TensorProto(
        name="table", data_type=onnx.TensorProto.FLOAT, dims=[rows, 7], data_location=onnx.TensorProto.EXTERNAL
    )
    for key, value in {"location": location, "offset": "0", "length": str(4 * 7 * rows)}.items():
        table.external_data.add(key=key, value=value)
    kept = [item for item in model.graph.initializer if item.name != "levels"]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, table])
    nodes = list(model.graph.node)
    lookup = [
        helper.make_node("Squeeze", ["nothing"], ["flat"]),
        helper.make_node("Cast", ["flat"], ["row_number"], to=onnx.TensorProto.INT64),
        helper.make_node("Gather", ["table", "row_number"], ["levels"], axis=0),
    ]
    at = next(index for index, node in enumerate(nodes) if node.op_type == "Add")
    del model.graph.node[:]
    model.graph.node.extend([*nodes[:at], *lookup, *nodes[at:]])
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("log_returns", "reason"),
    [
        ((0.0, 0.0, 0.0, float("nan"), 0.0, 0.0, 0.1), "not finite"),
        ((0.02, 0.01, 0.0, 0.0, 0.0, 0.01, 0.02), "do not increase"),
        ((0.0,) * 7, "do not increase"),
        ((-0.9, -0.1, 0.0, 0.0, 0.0, 0.1, 0.2), "too far from the last close"),
    ],
)
def test_a_model_with_an_impossible_forecast_is_refused(log_returns: tuple[float, ...], reason: str) -> None:
    model = OnnxModel.load(tiny_model("btc_usdt", log_returns=log_returns), BTC)
    with pytest.raises(BadModel, match=reason):
        model.quantiles(flat_candles(30), flat_candles(30))


def test_too_few_candles_are_no_fault_of_the_model() -> None:
    model = OnnxModel.load(tiny_model("btc_usdt"), BTC)
    with pytest.raises(NotEnoughHistory):
        model.quantiles(flat_candles(23), flat_candles(23))
