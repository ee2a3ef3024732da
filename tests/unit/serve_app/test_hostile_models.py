"""Graphs that would take a pair's forecasts, a process or a machine with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from make_us_rich.core.errors import BadModel, InputError
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.documents import HORIZONS
from make_us_rich.forecasting import onnx_model
from make_us_rich.forecasting.architectures import ARCHITECTURES, TrainingConfig, new_network
from make_us_rich.forecasting.export import to_onnx
from make_us_rich.forecasting.graph_limits import ALLOWED_OPERATORS, MOST_NODES, check_graph
from make_us_rich.forecasting.onnx_model import META_CONTEXT_LENGTH, META_TAILS, OnnxModel
from make_us_rich.market.candles import Candles
from make_us_rich.registry import shipped
from tests.support.tiny_model import tiny_model

BTC = "btc_usdt_1h"

_column = np.full(30, 100.0)
CANDLES = Candles(np.arange(30) * HOUR_MS, *[_column] * 5)

# Of models that were exported before one graph had 24 horizons (0.1.0 and earlier).
OLDER_OPERATORS = {"ReduceSum"}

Change = Callable[[ModelProto], object]


def _changed(change: Change) -> bytes:
    model = onnx.load_from_string(tiny_model("btc_usdt"))
    change(model)
    return bytes(model.SerializeToString())


def _before_the_quantiles(graph: GraphProto, nodes: Sequence[NodeProto], constants: dict[str, np.ndarray]) -> None:
    """Add `nodes`, whose output `extra` is a number that is added to each price."""
    graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in constants.items())
    graph.node[-1].output[0] = "prices"
    graph.node.extend([*nodes, helper.make_node("Add", ["prices", "extra"], ["quantiles"])])


def _body(name: str) -> GraphProto:
    number, truth = TensorProto.FLOAT, TensorProto.BOOL
    return helper.make_graph(
        [helper.make_node("Identity", ["going"], ["goes"]), helper.make_node("Identity", ["x"], ["y"])],
        name,
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", truth, []),
            helper.make_tensor_value_info("x", number, []),
        ],
        [helper.make_tensor_value_info("goes", truth, []), helper.make_tensor_value_info("y", number, [])],
    )


def _endless_loop(model: ModelProto) -> None:
    loop = helper.make_node("Loop", ["", "always", "zero"], ["extra"], body=_body("body"))
    _before_the_quantiles(model.graph, [loop], {"always": np.array(True)})


def _nested(model: ModelProto) -> None:
    """Hide a graph in the attribute of an operator that is allowed."""
    model.graph.node[-1].attribute.append(helper.make_attribute("then_branch", _body("hidden")))


def _list_of_graphs(model: ModelProto) -> None:
    attribute = onnx.AttributeProto(name="branches", type=onnx.AttributeProto.GRAPHS)
    attribute.graphs.append(_body("hidden"))
    model.graph.node[-1].attribute.append(attribute)


def _second_graph(model: ModelProto) -> bytes:
    """Protobuf merges a field that comes twice, so that the second part could hide from whoever reads the first."""
    hidden = ModelProto()
    hidden.graph.node.append(helper.make_node("Loop", ["", "", ""], ["extra"], body=_body("body")))
    return bytes(model.SerializeToString() + hidden.SerializeToString())


def _function(model: ModelProto) -> None:
    node = helper.make_node("Identity", ["a"], ["b"])
    model.functions.append(helper.make_function("own", "Fast", ["a"], ["b"], [node], [helper.make_opsetid("", 18)]))


def _foreign(model: ModelProto) -> None:
    model.graph.node[-1].domain = "com.microsoft"


def _random(model: ModelProto) -> None:
    _before_the_quantiles(model.graph, [helper.make_node("RandomNormal", [], ["extra"], shape=[1])], {})


def _too_many_nodes(model: ModelProto) -> None:
    names = ["zero", *(f"n{number}" for number in range(MOST_NODES)), "extra"]
    nodes = [helper.make_node("Identity", [before], [name]) for before, name in pairwise(names)]
    _before_the_quantiles(model.graph, nodes, {})


def _no_context(value: str) -> Change:
    return lambda model: _set_metadata(model, META_CONTEXT_LENGTH, value)


def _tails(value: str) -> Change:
    return lambda model: _set_metadata(model, META_TAILS, value)


def _set_metadata(model: ModelProto, key: str, value: str) -> None:
    next(item for item in model.metadata_props if item.key == key).value = value


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_endless_loop, "the operator 'Loop', which is not allowed"),
        (_nested, "holds another graph"),
        (_list_of_graphs, "holds another graph"),
        (_function, "functions"),
        (_foreign, "com.microsoft"),
        (_random, "RandomNormal"),
        (_too_many_nodes, "nodes, 5000 are allowed"),
        (_no_context("0"), "reads 0 candles"),
        (_no_context("-5"), "reads -5 candles"),
        (_no_context(str(10**12)), "candles"),
        (_no_context("many"), "does not load"),
        (_tails("{}"), "tails"),
        (_tails("[[0.3, 0.1], [0.3]]"), "does not load"),
        (_tails("[" * 10_000), "does not load"),
        (_tails('[["NaN", 0.1]]'), "tails"),
        (_tails("not JSON"), "does not load"),
    ],
)
def test_a_hostile_graph_is_a_bad_model(change: Change, reason: str) -> None:
    with pytest.raises(BadModel, match=reason):
        OnnxModel.load(_changed(change), BTC)


def test_a_graph_in_two_parts_is_read_as_a_whole() -> None:
    model = _second_graph(onnx.load_from_string(tiny_model("btc_usdt")))
    assert [node.op_type for node in onnx.load_from_string(model).graph.node][-1] == "Loop"
    with pytest.raises(BadModel, match="Loop"):
        OnnxModel.load(model, BTC)


def test_whatever_bytes_come_the_error_is_a_bad_model() -> None:
    whole = tiny_model("btc_usdt")
    random = np.random.default_rng(0)
    for _ in range(150):
        cut = whole[: random.integers(len(whole))]
        spoilt = bytearray(whole)
        spoilt[random.integers(len(whole))] = random.integers(256)
        for graph in (cut, bytes(spoilt), random.bytes(40)):
            with suppress(BadModel, InputError):
                OnnxModel.load(graph, BTC).quantiles(CANDLES, CANDLES)


def test_a_graph_in_another_format_of_onnx_runtime_is_refused() -> None:
    with pytest.raises(BadModel, match="does not load"):
        OnnxModel.load(b"\x18\x00\x00\x00ORTM" + bytes(100), BTC)


def test_a_run_ends_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(model: ModelProto) -> None:
        names = [f"m{number}" for number in range(1000)]
        nodes = [
            helper.make_node("Shape", ["candles"], ["shape"]),  # known when it runs, so that nothing is computed before
            helper.make_node("Mul", ["shape", "large"], ["size"]),
            helper.make_node("ConstantOfShape", ["size"], ["m0"]),
            *(helper.make_node("MatMul", [name, name], [after]) for name, after in pairwise(names)),
            helper.make_node("ReduceMax", [names[-1]], ["extra"], keepdims=0),
        ]
        _before_the_quantiles(model.graph, nodes, {"large": np.array([1, 40, 160])})

    monkeypatch.setattr(onnx_model, "_RUN_LIMIT_S", 0.1)
    model = OnnxModel.load(_changed(slow), BTC)
    with pytest.raises(BadModel, match=r"does not run: it took longer than 0\.1 s"):
        model.quantiles(CANDLES, CANDLES)


def test_a_graph_takes_no_more_memory_than_the_limit() -> None:
    """Without a limit this one takes 1.1 GB, and larger ones end the process."""

    def large(model: ModelProto) -> None:
        nodes = [
            helper.make_node("Shape", ["candles"], ["shape"]),
            helper.make_node("Mul", ["shape", "large"], ["size"]),
            helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
            helper.make_node("ReduceMax", ["zeros"], ["extra"], keepdims=0),
        ]
        _before_the_quantiles(model.graph, nodes, {"large": np.array([200, 100, 100])})

    model = OnnxModel.load(_changed(large), BTC)
    with pytest.raises(BadModel, match="memory"):
        model.quantiles(CANDLES, CANDLES)
    assert OnnxModel.load(tiny_model("btc_usdt"), BTC).quantiles(CANDLES, CANDLES).shape == (HORIZONS, 7)


@pytest.mark.parametrize("kind", [TensorProto.STRING, TensorProto.BOOL, TensorProto.INT64])
def test_an_output_of_another_type_is_a_bad_model(kind: int) -> None:
    def cast(model: ModelProto) -> None:
        model.graph.node[-1].output[0] = "prices"
        model.graph.node.append(helper.make_node("Cast", ["prices"], ["quantiles"], to=kind))
        model.graph.output[0].type.tensor_type.elem_type = kind

    with pytest.raises(BadModel):
        OnnxModel.load(_changed(cast), BTC).quantiles(CANDLES, CANDLES)


@pytest.mark.parametrize("horizons", [HORIZONS + 1, 500])
def test_more_horizons_than_there_are_is_a_bad_model(horizons: int) -> None:
    graph = onnx.load_from_string(tiny_model("btc_usdt", horizons=horizons))
    _set_metadata(graph, META_TAILS, json.dumps([[0.3, 0.1]] * horizons))
    with pytest.raises(BadModel, match=f"{horizons} horizons: it must be 1 to {HORIZONS}"):
        OnnxModel.load(graph.SerializeToString(), BTC)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("interval", [Interval.M15, Interval.D1])  # of all layouts the most nodes, and the fewest
def test_our_exports_are_allowed(architecture: str, interval: Interval) -> None:
    config = replace(TrainingConfig.of(interval), architecture=architecture)
    graph = to_onnx(new_network(config), config, {})
    check_graph(graph)
    assert 4 * len(onnx.load_from_string(graph).graph.node) < MOST_NODES


def test_the_shipped_foundation_and_older_models_are_allowed() -> None:
    foundation = shipped.find("simulated", Interval.H1)
    assert foundation is not None
    check_graph(foundation.graph)
    assert OLDER_OPERATORS <= ALLOWED_OPERATORS
    check_graph(tiny_model("btc_usdt", horizons=0))


def test_nothing_that_repeats_branches_or_draws_is_allowed() -> None:
    forbidden = ("Loop", "Scan", "If", "Random", "Bernoulli", "Multinomial", "Sequence", "Optional", "String")
    assert not [name for name in ALLOWED_OPERATORS if name.startswith(forbidden)]
