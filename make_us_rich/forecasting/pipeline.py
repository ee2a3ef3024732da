"""From candles to a checked model, step by step; and the same held-out score for a model that exists."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from make_us_rich.errors import BadModel
from make_us_rich.forecasting.contract import (
    META_ARCHITECTURE,
    META_AS_OF_MS,
    META_CONTEXT_LENGTH,
    META_INTERVAL,
    META_PAIR,
    QUANTILE_LEVELS,
)
from make_us_rich.forecasting.evaluate import HeldOut, metrics, pinball
from make_us_rich.forecasting.export import check_parity, context_length, run_onnx, to_onnx
from make_us_rich.forecasting.lstm import QuantileLstm
from make_us_rich.forecasting.train import Recipe, train
from make_us_rich.forecasting.windows import Panel, Rows, panel, raw_windows, rows_of, split
from make_us_rich.market.candles import Candles

__all__ = ["FittedModel", "Recipe", "fit", "score"]


@dataclass(frozen=True, eq=False)
class FittedModel:
    """A model that passed its checks, with everything that is logged of it.

    onnx: the graph, as contract.py describes it. weights: the network's, in numpy's npz format. metrics: on the
    held-out candles. input_example: the graph's inputs for the newest held-out forecast.
    """

    onnx: bytes
    weights: bytes
    params: dict[str, str | int | float]
    metrics: dict[str, float]
    curves: list[dict[str, float]]
    input_example: dict[str, NDArray[np.float32]]
    held_out: HeldOut


def fit(
    candles: Candles,
    reference: Candles,
    *,
    pair: str,
    interval: str,
    as_of_ms: int,
    recipe: Recipe,
    on_step: Callable[[str], None] = lambda step: None,
) -> FittedModel:
    """Train on candles closed at or before `as_of_ms`; nothing later changes a bit of the result.

    `reference` are BTC's candles. `on_step` hears each step's name as it begins. Raises NotEnoughHistory, BadCandles
    or BadModel.
    """
    if recipe.architecture != "lstm":
        raise BadModel(f"unknown architecture {recipe.architecture!r}: lstm is the one there is")
    on_step("features")
    found = panel(candles, reference, interval=interval, as_of_ms=as_of_ms, max_bridged=recipe.max_bridged)
    rows = rows_of(found, interval=interval, length=recipe.length)
    on_step("split")
    parts = split(
        rows, interval=interval, as_of_ms=as_of_ms, validation=recipe.validation, holdout=recipe.holdout
    )
    on_step("train")
    trained = train(parts.train, parts.validation, recipe)
    on_step("convert")
    context = context_length(recipe.length)
    metadata = {
        META_PAIR: pair,
        META_INTERVAL: interval,
        META_CONTEXT_LENGTH: str(context),
        META_ARCHITECTURE: recipe.architecture,
        META_AS_OF_MS: str(as_of_ms),
    }
    graph = to_onnx(trained.network, recipe.length, metadata)
    on_step("validate")
    inputs = _inputs(found, parts.holdout.target_open_ms, interval, context)
    check_parity(graph, trained.network, inputs)
    quantiles, losses = _held_out(graph, inputs, parts.holdout)
    naive = _naive(parts.train, len(parts.holdout))
    return FittedModel(
        onnx=graph,
        weights=_npz(trained.network),
        params={**asdict(recipe), "train_rows": len(parts.train), "context_length": context},
        metrics=metrics(quantiles, naive, parts.holdout.target.double().numpy()),
        curves=trained.curves,
        input_example={name: array[-1:] for name, array in inputs.items()},
        held_out=losses,
    )


def score(
    graph: bytes, candles: Candles, reference: Candles, *, interval: str, as_of_ms: int, recipe: Recipe
) -> HeldOut:
    """The losses of a model that exists on the held-out candles that a model of today is judged by."""
    found = panel(candles, reference, interval=interval, as_of_ms=as_of_ms, max_bridged=recipe.max_bridged)
    rows = rows_of(found, interval=interval, length=recipe.length)
    parts = split(
        rows, interval=interval, as_of_ms=as_of_ms, validation=recipe.validation, holdout=recipe.holdout
    )
    inputs = _inputs(found, parts.holdout.target_open_ms, interval, context_length(recipe.length))
    return _held_out(graph, inputs, parts.holdout)[1]


def _inputs(
    found: Panel, targets: NDArray[np.int64], interval: str, context: int
) -> dict[str, NDArray[np.float32]]:
    own, btc = raw_windows(found, targets, interval=interval, context=context)
    return {"candles": own, "reference": btc}


def _held_out(
    graph: bytes, inputs: dict[str, NDArray[np.float32]], rows: Rows
) -> tuple[NDArray[np.float64], HeldOut]:
    _, log_returns = run_onnx(graph, inputs)
    quantiles = log_returns.astype(np.float64)
    losses = pinball(quantiles, rows.target.double().numpy())
    return quantiles, HeldOut(rows.target_open_ms, losses)


def _naive(train_rows: Rows, count: int) -> NDArray[np.float64]:
    """The random walk: the price stays, with the training returns' constant quantiles around it."""
    levels = np.quantile(train_rows.target.double().numpy(), QUANTILE_LEVELS)
    return np.tile(levels, (count, 1))


def _npz(network: QuantileLstm) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{name: value.detach().cpu().numpy() for name, value in network.state_dict().items()})
    return buffer.getvalue()


def load_weights(content: bytes, recipe: Recipe) -> QuantileLstm:
    """The network of a FittedModel's `weights`, to go on training from."""
    network = QuantileLstm(recipe.hidden)
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        network.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays.files})
    return network
