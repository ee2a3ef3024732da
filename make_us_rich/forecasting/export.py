"""Export a network as one ONNX graph that is the whole model, and check it."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime import InferenceSession
from torch import Tensor, nn

from make_us_rich.core.errors import BadModel
from make_us_rich.forecasting.architectures import TrainingConfig, architecture, context_length
from make_us_rich.forecasting.features import CLOSE, feature_layout
from make_us_rich.forecasting.networks import Network
from make_us_rich.forecasting.onnx_model import (
    COLUMN_UNITS,
    DESCRIPTION,
    META_COLUMNS,
    META_CONTEXT_LENGTH,
    META_TAILS,
    GraphInputs,
    open_session,
)

_OPSET = 17
# of log returns, whose size is 1e-3 to 1e-2
_RTOL, _ATOL = 1e-3, 1e-5


class ForecastGraph(nn.Module):
    """Maps raw candles to price quantiles: the graph that onnx_model.py describes."""

    def __init__(self, network: Network, config: TrainingConfig) -> None:
        super().__init__()
        self.network = network
        self.features, self.layout = architecture(config.architecture).features, feature_layout(config.interval)

    def forward(self, candles: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        sequence, static = self.features(candles, reference, self.layout)
        log_returns = self.network(sequence, static[:, -1])
        last_close = candles[:, -1, CLOSE].view(-1, 1, 1)
        return last_close * log_returns.exp(), log_returns


def to_onnx(network: Network, config: TrainingConfig, metadata: Mapping[str, str]) -> bytes:
    """Export a network with TorchScript's exporter, which takes 0.1 s and makes a plain LSTM node; dynamo takes 4 s."""
    example = torch.ones(2, context_length(config), 6)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about tracing with a batch of two, and about the exporter's age
        torch.onnx.export(
            ForecastGraph(network, config).eval(),
            (example, example),
            buffer,  # type: ignore[arg-type]  # the TorchScript exporter takes a file object
            input_names=["candles", "reference"],
            output_names=["quantiles", "log_returns"],
            dynamic_axes={name: {0: "batch"} for name in ("candles", "reference", "quantiles", "log_returns")},
            opset_version=_OPSET,
            dynamo=False,
        )
    graph = onnx.load_from_string(buffer.getvalue())
    graph.doc_string = DESCRIPTION
    own = {
        META_CONTEXT_LENGTH: str(context_length(config)),
        META_COLUMNS: json.dumps(COLUMN_UNITS),
        META_TAILS: json.dumps(network.tails().tolist()),
    }
    onnx.helper.set_model_props(graph, {**metadata, **own})
    onnx.checker.check_model(graph, full_check=True)
    content: bytes = graph.SerializeToString()
    return content


def metadata_of(graph: bytes) -> dict[str, str]:
    """Read the metadata of a graph. Raises BadModel when the bytes are not an ONNX model."""
    try:
        model = onnx.load_from_string(graph)
    except Exception:  # protobuf's own error is not part of onnx's interface
        raise BadModel("the model is not a readable ONNX graph") from None
    return {item.key: item.value for item in model.metadata_props}


def run_onnx(graph: bytes | InferenceSession, inputs: GraphInputs) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Run a graph on one thread; return (price quantiles, log-return quantiles), each [n, horizons, 7]."""
    session = open_session(graph) if isinstance(graph, bytes) else graph
    quantiles, log_returns = session.run(["quantiles", "log_returns"], inputs)
    if quantiles.ndim == 2:  # a graph of the first contract
        return quantiles[:, None], log_returns[:, None]
    return quantiles, log_returns


def check_parity(exported: NDArray[np.float64], network: Network, config: TrainingConfig, inputs: GraphInputs) -> None:
    """Raise BadModel unless the graph's log returns are finite, ascending and equal to the network's."""
    with torch.no_grad():
        _, expected = ForecastGraph(network, config)(
            torch.from_numpy(inputs["candles"]), torch.from_numpy(inputs["reference"])
        )
    if not np.isfinite(exported).all():
        raise BadModel("the exported graph forecasts numbers that are not finite")
    if not np.allclose(exported, expected.numpy(), rtol=_RTOL, atol=_ATOL):
        worst = float(np.abs(exported - expected.numpy()).max())
        raise BadModel(f"the exported graph differs from PyTorch by up to {worst:.2e} in log return")
    if (np.diff(exported, axis=2) < 0).any():
        raise BadModel("the exported graph's quantiles cross")
