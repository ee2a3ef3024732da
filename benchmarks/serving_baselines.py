"""What serving is measured against: Ray Serve doing nothing, and the first version's way of predicting."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
from fastapi import FastAPI
from onnx import TensorProto, helper, numpy_helper
from ray import serve
from ray.serve import Application

ROWS, FEATURES, HIDDEN = 120, 10, 128


def noop(_: dict[str, str]) -> Application:
    """`serve_app` without anything in it: one FastAPI route that answers a constant."""
    return serve.deployment(name="noop")(serve.ingress(_noop_app)()).bind()


def _noop_app() -> FastAPI:
    app = FastAPI()

    @app.get("/")
    async def nothing() -> dict[str, str]:
        return {"status": "ok"}

    return app


def row_loop_app() -> FastAPI:
    """One process that builds features row by row, scales them and runs the 2 x 128 LSTM, at every call."""
    app = FastAPI()
    session = onnxruntime.InferenceSession(_lstm(), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    closes = 30_000 * np.exp(np.cumsum(random.normal(0, 0.005, ROWS + 1)))
    candles = pd.DataFrame(
        {
            "timestamp": pd.date_range("2026-01-01", periods=ROWS + 1, freq="h"),
            "open": closes,
            "high": closes * 1.001,
            "low": closes * 0.999,
            "close": closes,
        }
    )

    @app.put("/predict")
    def predict() -> dict[str, float]:
        values = np.array([list(row.values()) for row in _features(candles)], dtype=np.float32)
        low, high = values.min(axis=0), values.max(axis=0)
        scaled = (values - low) / np.where(high > low, high - low, 1)
        predicted = float(session.run(None, {"candles": scaled[None]})[0].ravel()[0])
        return {"prediction": predicted * float(high[-1] - low[-1]) + float(low[-1])}

    return app


def _features(candles: pd.DataFrame) -> list[dict[str, Any]]:
    rows = []
    for index, row in candles.iloc[1:].iterrows():
        rows.append(
            {
                "day_of_week": row["timestamp"].dayofweek,
                "day_of_month": row["timestamp"].day,
                "week_of_year": row["timestamp"].week,
                "month": row["timestamp"].month,
                "hour": row["timestamp"].hour,
                "open": row["open"],
                "high": row["high"],
                "low": row["low"],
                "close_change": row["close"] - candles.iloc[index - 1]["close"],
                "close": row["close"],
            }
        )
    return rows


def _lstm() -> bytes:
    """Two layers with random weights: their speed is what counts."""
    random = np.random.default_rng(0)
    weights, nodes, width, last = [], [], FEATURES, "steps"
    nodes.append(helper.make_node("Transpose", ["candles"], ["steps"], perm=[1, 0, 2]))
    for layer in ("one", "two"):
        shapes = {"w": (1, 4 * HIDDEN, width), "r": (1, 4 * HIDDEN, HIDDEN), "b": (1, 8 * HIDDEN)}
        for name, shape in shapes.items():
            array = random.normal(0, 0.1, shape).astype(np.float32)
            weights.append(numpy_helper.from_array(array, f"{layer}_{name}"))
        inputs = [last, *(f"{layer}_{name}" for name in shapes)]
        nodes.append(helper.make_node("LSTM", inputs, [f"{layer}_y", f"{layer}_h"], hidden_size=HIDDEN))
        nodes.append(helper.make_node("Squeeze", [f"{layer}_y", "axis"], [f"{layer}_out"]))
        last, width = f"{layer}_out", HIDDEN
    nodes.append(helper.make_node("ReduceMean", ["two_h"], ["prediction"], keepdims=0))
    weights.append(numpy_helper.from_array(np.array([1], dtype=np.int64), "axis"))
    graph = helper.make_graph(
        nodes,
        "first_version",
        [helper.make_tensor_value_info("candles", TensorProto.FLOAT, [1, ROWS, FEATURES])],
        [helper.make_tensor_value_info("prediction", TensorProto.FLOAT, [])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())
