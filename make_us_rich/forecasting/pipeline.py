"""From candles to a checked model, step by step; and the same held-out score for a model that exists."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from make_us_rich.core.errors import BadModel, InputError, NotEnoughHistory
from make_us_rich.core.interval import Interval
from make_us_rich.forecasting.baselines import naive
from make_us_rich.forecasting.contract import (
    META_ARCHITECTURE,
    META_AS_OF_MS,
    META_CONTEXT_LENGTH,
    META_INTERVAL,
    META_PAIR,
)
from make_us_rich.forecasting.dataset import Panel, panel, raw_windows, rows_of, split
from make_us_rich.forecasting.evaluation import HeldOut, held_out, metrics
from make_us_rich.forecasting.export import check_parity, context_length, metadata_of, run_onnx, to_onnx
from make_us_rich.forecasting.process_group import ProcessGroup
from make_us_rich.forecasting.samples import Split, drawn, joined
from make_us_rich.forecasting.training import ALONE, Trained, fine_tune, fine_tune_together, train, train_shared
from make_us_rich.forecasting.training_config import TrainingConfig
from make_us_rich.forecasting.weights import from_npz, to_npz
from make_us_rich.market.candles import Candles

__all__ = [
    "FOUNDATION",
    "FittedModel",
    "Prepared",
    "Trained",
    "TrainingConfig",
    "finish",
    "fit",
    "fit_foundation",
    "prepare",
    "score",
    "train_prepared",
    "train_together",
]

K = TypeVar("K")

FOUNDATION = "foundation"
"""What stands for the pair in the metadata of a model of many pairs."""


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


@dataclass(frozen=True, eq=False)
class Prepared:
    """Candles as rows, and the aligned candles they were made of."""

    panel: Panel
    split: Split


def prepare(
    candles: Candles,
    reference: Candles,
    *,
    interval: Interval,
    as_of_ms: int,
    config: TrainingConfig,
    on_step: Callable[[str], None] = lambda step: None,
) -> Prepared:
    """Samples of train, validation and holdout, of candles closed at or before `as_of_ms`."""
    on_step("features")
    found = panel(candles, reference, interval=interval, as_of_ms=as_of_ms, max_bridged=config.max_bridged)
    on_step("sequences")
    rows = rows_of(found, interval=interval, config=config)
    on_step("split")
    return Prepared(found, split(rows, interval=interval, as_of_ms=as_of_ms, config=config))


def fit(
    candles: Candles,
    reference: Candles,
    *,
    pair: str,
    interval: Interval,
    as_of_ms: int,
    config: TrainingConfig,
    foundation: bytes | None = None,
    device: str = "cpu",
    on_step: Callable[[str], None] = lambda step: None,
    group: ProcessGroup = ALONE,
) -> FittedModel:
    """Train on candles closed at or before `as_of_ms`; nothing later changes a bit of the result.

    `reference` are BTC's candles. `foundation` are the weights of a FittedModel of the same config to start from: of
    many pairs, or of this one, as of the same time or earlier. `on_step` hears each step's name as it begins. Raises
    NotEnoughHistory, BadCandles, BadModel, or InputError for an unknown architecture.
    """
    ready = prepare(candles, reference, interval=interval, as_of_ms=as_of_ms, config=config, on_step=on_step)
    trained = train_prepared(
        ready, as_of_ms=as_of_ms, config=config, foundation=foundation, device=device, on_step=on_step, group=group
    )
    return finish(ready, trained, pair=pair, interval=interval, as_of_ms=as_of_ms, config=config, on_step=on_step)


def train_prepared(
    ready: Prepared,
    *,
    as_of_ms: int,
    config: TrainingConfig,
    foundation: bytes | None = None,
    device: str = "cpu",
    on_step: Callable[[str], None] = lambda step: None,
    group: ProcessGroup = ALONE,
) -> Trained:
    """The second step of `fit`."""
    rows, validation = ready.split.train.to(device), ready.split.validation.to(device)
    if foundation is None:
        return train(rows, validation, config, on_step, group)
    return fine_tune(from_npz(foundation, config, as_of_ms), rows, validation, config, on_step, group)


def train_together(
    ready: Mapping[K, Prepared], *, as_of_ms: int, config: TrainingConfig, foundation: bytes, device: str = "cpu"
) -> dict[K, Trained]:
    """The second step of `fit` for many pairs at once, which keeps a GPU busy and is slow without one.

    Pairs with as many rows as each other make a stack; those with no other of their size are left out.
    """
    start = from_npz(foundation, config, as_of_ms)
    by_size: dict[tuple[int, int], list[K]] = defaultdict(list)
    for pair, item in ready.items():
        by_size[len(item.split.train), len(item.split.validation)].append(pair)
    trained: dict[K, Trained] = {}
    for pairs in by_size.values():
        if len(pairs) > 1:
            rows = [ready[pair].split.train.to(device) for pair in pairs]
            validation = [ready[pair].split.validation.to(device) for pair in pairs]
            trained.update(zip(pairs, fine_tune_together(start, rows, validation, config), strict=True))
    return trained


def finish(
    ready: Prepared,
    trained: Trained,
    *,
    pair: str,
    interval: Interval,
    as_of_ms: int,
    config: TrainingConfig,
    on_step: Callable[[str], None] = lambda step: None,
) -> FittedModel:
    """The last step of `fit`: export, checks and scores."""
    on_step("convert")
    graph = _exported(trained, config, pair=pair, interval=interval, as_of_ms=as_of_ms)
    on_step("validate")
    forecasts, example = _checked_forecasts(graph, trained, ready, config, interval)
    return FittedModel(
        onnx=graph,
        weights=to_npz(trained.network, as_of_ms),
        params=_params(config) | {"start": trained.start, "train_rows": len(ready.split.train)},
        metrics=metrics(forecasts.quantiles, _naive(ready.split, len(forecasts.target)), forecasts.target),
        curves=trained.curves,
        input_example=example,
        held_out=forecasts,
    )


def fit_foundation(
    markets: Mapping[str, Candles],
    reference: Candles,
    *,
    interval: Interval,
    as_of_ms: int,
    config: TrainingConfig,
    device: str = "cpu",
    group: ProcessGroup = ALONE,
) -> FittedModel:
    """One model of many pairs: to fine-tune from, and to forecast pairs with too little history of their own.

    Pairs move together, so a network that sees an hour once for each of many pairs memorises that hour. Training
    draws rows such that it sees no hour more than `config.foundation_views` times.

    `markets` maps pairs to candles; those without enough history are left out. `held_out` has one row a pair and
    candle, pair after pair. Raises NotEnoughHistory when no pair has enough.
    """
    if config.architecture == "level_mse":
        raise InputError("level_mse learns the price level of one pair: it cannot be shared", field="architecture")
    ready = {}
    for pair, candles in markets.items():
        try:
            ready[pair] = prepare(candles, reference, interval=interval, as_of_ms=as_of_ms, config=config)
        except InputError:
            continue
    if not ready:
        raise NotEnoughHistory("no pair has enough history to train a foundation model")
    splits = [item.split for item in ready.values()]
    newest = [part.validation for part in splits]
    everything = [*(part.train for part in splits), *newest]
    pairs_an_hour = max(1, config.foundation_views // config.foundation_epochs)
    rows = joined(drawn(everything, pairs_an_hour, config.seed)).to(device)
    many = replace(
        config, epochs=config.foundation_epochs, learning_rate=config.foundation_learning_rate, batch=2 * config.batch
    )
    trained = train_shared(rows, joined(newest).to(device), many, group)
    graph = _exported(trained, config, pair=FOUNDATION, interval=interval, as_of_ms=as_of_ms)
    scored = [_checked_forecasts(graph, trained, item, config, interval) for item in ready.values()]
    forecasts = [item for item, _ in scored]
    quantiles = np.concatenate([item.quantiles for item in forecasts])
    target = np.concatenate([item.target for item in forecasts])
    naives = [_naive(part, len(item.target)) for part, item in zip(splits, forecasts, strict=True)]
    return FittedModel(
        onnx=graph,
        weights=to_npz(trained.network, as_of_ms),
        params=_params(config) | {"pairs": ",".join(ready), "train_rows": len(rows)},
        metrics=metrics(quantiles, np.concatenate(naives), target),
        curves=trained.curves,
        input_example=scored[-1][1],
        held_out=held_out(np.concatenate([item.target_open_ms for item in forecasts]), quantiles, target),
    )


def score(graph: bytes, ready: Prepared, *, interval: Interval) -> HeldOut:
    """The forecasts of a model that exists, on the held-out candles that a model of today is judged by."""
    try:
        context = int(metadata_of(graph)[META_CONTEXT_LENGTH])
    except (KeyError, ValueError):
        raise BadModel(f"the model's metadata has no {META_CONTEXT_LENGTH}") from None
    return _forecasts(graph, ready, interval, context)[0]


def _exported(trained: Trained, config: TrainingConfig, *, pair: str, interval: Interval, as_of_ms: int) -> bytes:
    trained.network.cpu()
    metadata = {
        META_PAIR: pair,
        META_INTERVAL: interval,
        META_ARCHITECTURE: config.architecture,
        META_AS_OF_MS: str(as_of_ms),
    }
    return to_onnx(trained.network, config, metadata)


def _checked_forecasts(
    graph: bytes, trained: Trained, ready: Prepared, config: TrainingConfig, interval: Interval
) -> tuple[HeldOut, dict[str, NDArray[np.float32]]]:
    forecasts, inputs = _forecasts(graph, ready, interval, context_length(config))
    check_parity(forecasts.quantiles, trained.network, config, inputs)
    return forecasts, {name: array[-1:].copy() for name, array in inputs.items()}


def _forecasts(
    graph: bytes, ready: Prepared, interval: Interval, context: int
) -> tuple[HeldOut, dict[str, NDArray[np.float32]]]:
    rows = ready.split.holdout
    usable, inputs = raw_windows(ready.panel, rows.target_open_ms, interval=interval, context=context)
    _, log_returns = run_onnx(graph, inputs)
    return held_out(rows.target_open_ms[usable], log_returns, rows.target.numpy()[usable]), inputs


def _naive(parts: Split, count: int) -> NDArray[np.float64]:
    past = torch.cat([parts.train.target, parts.validation.target]).double().numpy()
    return naive(past, np.empty(count))


def _params(config: TrainingConfig) -> dict[str, str | int | float]:
    return {**asdict(config), "context_length": context_length(config)}
