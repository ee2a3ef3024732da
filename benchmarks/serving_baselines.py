"""What serving is measured against: Ray Serve doing nothing, and the first version's way of predicting."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import torch
from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from torch import Tensor, nn

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


class _Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers, self.head = nn.LSTM(FEATURES, HIDDEN, num_layers=2, batch_first=True), nn.Linear(HIDDEN, 1)

    def forward(self, candles: Tensor) -> Tensor:
        answer: Tensor = self.head(self.layers(candles)[0][:, -1])
        return answer


def _lstm() -> bytes:
    """Return a graph with random weights: their speed is what counts."""
    buffer = io.BytesIO()
    example = (torch.zeros(1, ROWS, FEATURES),)
    torch.onnx.export(
        _Lstm().eval(),
        example,
        buffer,  # type: ignore[arg-type]  # as in forecasting/export.py
        input_names=["candles"],
        dynamo=False,
    )
    return buffer.getvalue()
