"""A minimal ONNX model that follows the forecasting contract, for tests of the code that runs models."""

from __future__ import annotations

import json

import numpy as np
import onnx
from onnx import TensorProto, helper

from make_us_rich.core.interval import Interval
from make_us_rich.documents import HORIZONS, QUANTILE_LEVELS
from make_us_rich.forecasting.onnx_model import (
    COLUMNS,
    META_ARCHITECTURE,
    META_AS_OF_MS,
    META_CONTEXT_LENGTH,
    META_INTERVAL,
    META_PAIR,
    META_TAILS,
)

_CLOSE = COLUMNS.index("close")
LOG_RETURNS = (-0.02, -0.01, -0.005, 0.0, 0.005, 0.01, 0.02)


def tiny_model(
    pair: str,
    *,
    interval: Interval = Interval.H1,
    context_length: int = 24,
    as_of_ms: int = 0,
    log_returns: tuple[float, ...] = LOG_RETURNS,
    horizons: int = HORIZONS,
) -> bytes:
    """Return a graph whose quantiles at horizon h are the last close times exp(`log_returns` times the root of h).

    `horizons` 0 makes a graph of the first contract, whose outputs are [batch, 7].
    """
    levels = np.sqrt(np.arange(1, max(horizons, 1) + 1))[:, None] * np.array(log_returns)
    shape = ["batch", context_length, len(COLUMNS)]
    out = ["batch", horizons, len(QUANTILE_LEVELS)] if horizons else ["batch", len(QUANTILE_LEVELS)]
    constants = {
        "step": np.array(context_length - 1, dtype=np.int64),
        "column": np.array([_CLOSE], dtype=np.int64),
        "levels": (levels[None] if horizons else levels).astype(np.float32),
        "zero": np.array(0, dtype=np.float32),
        "by_horizon": np.array([-1, 1, 1] if horizons else [-1, 1], dtype=np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["candles", "step"], ["row"], axis=1),
        helper.make_node("Gather", ["row", "column"], ["last_close"], axis=1),
        helper.make_node("Reshape", ["last_close", "by_horizon"], ["close"]),
        helper.make_node("Gather", ["reference", "step"], ["reference_row"], axis=1),
        helper.make_node("Gather", ["reference_row", "column"], ["reference_close"], axis=1),
        helper.make_node("Reshape", ["reference_close", "by_horizon"], ["reference_by_horizon"]),
        helper.make_node("Mul", ["reference_by_horizon", "zero"], ["nothing"]),
        helper.make_node("Add", ["levels", "nothing"], ["log_returns"]),
        helper.make_node("Exp", ["log_returns"], ["factor"]),
        helper.make_node("Mul", ["close", "factor"], ["quantiles"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("candles", "reference")],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, out) for name in ("quantiles", "log_returns")],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    metadata = {
        META_PAIR: pair,
        META_INTERVAL: interval,
        META_CONTEXT_LENGTH: str(context_length),
        META_ARCHITECTURE: "tiny",
        META_AS_OF_MS: str(as_of_ms),
    }
    if horizons:
        metadata[META_TAILS] = json.dumps([[0.35, 0.15]] * horizons)
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
