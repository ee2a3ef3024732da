"""From candles to a checked model, step by step, and the evaluation of an existing model on the same holdout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

import numpy as np
from onnxruntime import InferenceSession

from make_us_rich.core.errors import BadCandles, BadModel, InputError, NotEnoughHistory
from make_us_rich.core.interval import Interval
from make_us_rich.forecasting.architectures import TrainingConfig, context_length, from_npz, to_npz
from make_us_rich.forecasting.baselines import NAIVE, baseline_forecasts
from make_us_rich.forecasting.dataset import PreparedPair, graph_inputs, prepare
from make_us_rich.forecasting.evaluation import HoldoutForecasts, holdout_forecasts, metrics
from make_us_rich.forecasting.export import check_parity, metadata_of, run_onnx, to_onnx
from make_us_rich.forecasting.onnx_model import (
    META_ARCHITECTURE,
    META_AS_OF_MS,
    META_CONTEXT_LENGTH,
    META_INTERVAL,
    META_PAIR,
    GraphInputs,
    open_session,
)
from make_us_rich.forecasting.samples import Samples, draw
from make_us_rich.forecasting.training import TrainedNetwork, TrainingTask, adapt, fine_tune, train, train_foundation
from make_us_rich.market.candles import Candles

FOUNDATION = "foundation"
"""Replaces the pair in the metadata of a foundation model."""


@dataclass(frozen=True, eq=False)
class FittedModel:
    """A model that passed its checks, with everything that is logged of it.

    onnx: the graph, as onnx_model.py describes it. weights: see architectures.to_npz. metrics: on the holdout. naive:
    the random walk's forecasts of the same candles. prepared: the pair that it was trained on, None for a foundation.
    """

    onnx: bytes
    weights: bytes
    params: dict[str, str | int | float]
    metrics: dict[str, float]
    curves: list[dict[str, float]]
    holdout: HoldoutForecasts
    naive: HoldoutForecasts
    prepared: PreparedPair | None = None


def fit(
    candles: Candles, reference: Candles, task: TrainingTask, *, pair: str, foundation: bytes | None = None
) -> FittedModel:
    """Train on candles closed at or before the task's as_of; later ones change no bit of the result.

    `reference` are BTC's candles. `foundation` are the weights to fine-tune, of a FittedModel with the same config and
    an as_of no later; without them the pair is trained from scratch. Raises NotEnoughHistory, BadCandles, BadModel, or
    InputError for an unknown architecture.
    """
    prepared = prepare(candles, reference, task)
    return export_and_evaluate(prepared, train_pair(prepared, task, foundation), task, pair=pair)


def train_pair(prepared: PreparedPair, task: TrainingTask, foundation: bytes | None = None) -> TrainedNetwork:
    """Run the second step of `fit`: training from scratch, or fine-tuning of the foundation."""
    samples, validation = prepared.split.train, prepared.split.validation
    if foundation is None:
        return train(samples, validation, task)
    return fine_tune(from_npz(foundation, task.config, task.as_of_ms), samples, validation, task)


def export_and_evaluate(
    prepared: PreparedPair, trained: TrainedNetwork, task: TrainingTask, *, pair: str
) -> FittedModel:
    """Run the last step of `fit`: ONNX export, parity check and metrics."""
    task.on_step("convert")
    graph = _export(trained, task, pair)
    task.on_step("validate")
    forecasts = _checked_forecasts(graph, trained, prepared, task.config)
    baseline = _naive_forecasts(prepared, forecasts, task.interval)
    return FittedModel(
        onnx=graph,
        weights=to_npz(trained.network, task.as_of_ms),
        params=_params(task.config) | {"start": trained.start, "train_rows": len(prepared.split.train)},
        metrics=metrics(forecasts, baseline),
        curves=trained.curves,
        holdout=forecasts,
        naive=baseline,
        prepared=prepared,
    )


def fit_foundation(candles_by_pair: Mapping[str, Candles], reference: Candles, task: TrainingTask) -> FittedModel:
    """Train one model on many pairs: to be fine-tuned for each, and to forecast pairs with too little history.

    Pairs without enough usable history are left out; delisted ones are trained on. See `fit_foundation_on`. Raises
    NotEnoughHistory when no pair has enough.
    """
    prepared = {}
    for pair, candles in candles_by_pair.items():
        with suppress(NotEnoughHistory, BadCandles):
            prepared[pair] = prepare(candles, reference, task, may_have_ended=True)
    return fit_foundation_on(prepared, task)


def fit_foundation_on(prepared: Mapping[str, PreparedPair], task: TrainingTask) -> FittedModel:
    """Train one model on prepared pairs. Its `holdout` has one forecast for each pair and candle, pair after pair.

    The order of the argument changes nothing: the pairs are sorted by name. A pair without half of the holdout, as a
    delisted one, is trained on and not judged.

    Pairs move together, and a network that sees an hour of the market too often memorises it. Training is therefore
    budgeted by hours: each epoch draws `config.foundation_draws` samples of each hour, of any number of pairs. Raises
    NotEnoughHistory when there is no pair.
    """
    config = task.config
    if config.architecture == "level_mse":
        raise InputError("level_mse learns the price level of one pair: it cannot be shared", field="architecture")
    prepared = dict(sorted(prepared.items()))  # samples are drawn by position, and sums depend on the order
    judged = [item for item in prepared.values() if len(item.split.holdout) >= config.holdout // 2]
    if not judged:
        raise NotEnoughHistory("no pair has enough history to train a foundation model")
    splits = [item.split for item in prepared.values()]
    newest = [part.validation for part in splits]
    everything = [*(part.train for part in splits), *newest]
    candles = len(np.unique(np.concatenate([part.target_open_ms for part in everything])))
    draws, epochs = config.foundation_draws, config.foundation_epochs

    def drawn(epoch: int) -> Samples:
        return draw(everything, draws, seed=config.seed, epoch=epoch)

    validation = draw(newest, epochs * draws, seed=config.seed)
    shared = replace(config, epochs=epochs, learning_rate=config.foundation_learning_rate, batch=2 * config.batch)
    trained = train_foundation(drawn, validation, replace(task, config=shared))
    graph = _export(trained, task, FOUNDATION)
    session = open_session(graph)  # once for all pairs: it takes longer than the forecasts of one
    evaluated = [_checked_forecasts(session, trained, item, config) for item in judged]
    naives = [_naive_forecasts(item, own, task.interval) for item, own in zip(judged, evaluated, strict=True)]
    together = _join(evaluated)
    del evaluated  # 2.5 MB for each pair
    baseline = _join(naives)
    return FittedModel(
        onnx=graph,
        weights=to_npz(trained.network, task.as_of_ms),
        params=_params(config) | {"pairs": ",".join(prepared), "train_rows": epochs * draws * candles},
        metrics=metrics(together, baseline),
        curves=trained.curves,
        holdout=together,
        naive=baseline,
    )


def adapt_foundation(candles: Candles, reference: Candles, task: TrainingTask, *, foundation: bytes) -> FittedModel:
    """Adapt a foundation to one pair that has no model of its own: its level of volatility and its calibration.

    Like `fit`, on candles closed at or before the task's as_of, but no weight is trained, which takes a tenth of the
    time and needs less history. The graph is for this pair alone; its metadata says `foundation` for the pair.
    `foundation` are the weights, as for `fit`. Raises NotEnoughHistory, BadCandles or BadModel.
    """
    task = replace(task, config=adapting(task.config))
    prepared = prepare(candles, reference, task)
    adapted = adapt(from_npz(foundation, task.config, task.as_of_ms), prepared.split.train, task.config)
    return export_and_evaluate(prepared, adapted, task, pair=FOUNDATION)


def adapting(config: TrainingConfig) -> TrainingConfig:
    """Return the config for `adapt_foundation`: no validation samples, and as few to train on as those would be."""
    return replace(config, validation=0, least_training=config.validation)


def evaluate_model(graph: bytes, prepared: PreparedPair, *, interval: Interval) -> HoldoutForecasts:
    """Forecast the holdout of a prepared pair with an existing model. Raises BadModel."""
    try:
        context = int(metadata_of(graph)[META_CONTEXT_LENGTH])
    except (KeyError, ValueError):
        raise BadModel(f"the model's metadata has no {META_CONTEXT_LENGTH}") from None
    return _forecast_holdout(graph, prepared, interval, context)[0]


def _export(trained: TrainedNetwork, task: TrainingTask, pair: str) -> bytes:
    trained.network.cpu()
    metadata = {
        META_PAIR: pair,
        META_INTERVAL: task.interval,
        META_ARCHITECTURE: task.config.architecture,
        META_AS_OF_MS: str(task.as_of_ms),
    }
    return to_onnx(trained.network, task.config, metadata)


def _checked_forecasts(
    graph: bytes | InferenceSession, trained: TrainedNetwork, prepared: PreparedPair, config: TrainingConfig
) -> HoldoutForecasts:
    """Return the holdout's forecasts. Raises BadModel if the parity check fails."""
    forecasts, inputs = _forecast_holdout(graph, prepared, config.interval, context_length(config))
    check_parity(forecasts.quantiles, trained.network, config, inputs)
    return forecasts


def _forecast_holdout(
    graph: bytes | InferenceSession, prepared: PreparedPair, interval: Interval, context: int
) -> tuple[HoldoutForecasts, GraphInputs]:
    holdout = prepared.split.holdout
    usable, inputs = graph_inputs(prepared.aligned, holdout.target_open_ms, interval=interval, context=context)
    _, log_returns = run_onnx(graph, inputs)
    return holdout_forecasts(holdout.target_open_ms[usable], log_returns, holdout.target.numpy()[usable]), inputs


def _naive_forecasts(prepared: PreparedPair, model: HoldoutForecasts, interval: Interval) -> HoldoutForecasts:
    """Forecast the same candles with the random walk, at the same horizons."""
    times, horizons = model.target_open_ms, range(1, model.horizons + 1)
    quantiles = baseline_forecasts(prepared.closed, interval.ms, times, horizons, [NAIVE])[NAIVE]
    return holdout_forecasts(times, quantiles, model.target)


def _join(forecasts: Sequence[HoldoutForecasts]) -> HoldoutForecasts:
    columns = zip(*(vars(item).values() for item in forecasts), strict=True)
    return HoldoutForecasts(*map(np.concatenate, columns))


def _params(config: TrainingConfig) -> dict[str, str | int | float]:
    return {**asdict(config), "context_length": context_length(config)}
