"""From candles to a checked model, step by step, and the evaluation of an existing model on the same holdout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession

from make_us_rich.core.errors import BadCandles, BadModel, InputError, NotEnoughHistory
from make_us_rich.core.interval import Interval
from make_us_rich.forecasting.architectures import TrainingConfig, context_length, from_npz, to_npz
from make_us_rich.forecasting.baselines import naive
from make_us_rich.forecasting.dataset import AlignedCandles, align_candles, graph_inputs, make_samples, split
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
from make_us_rich.forecasting.samples import Samples, Split, draw
from make_us_rich.forecasting.training import (
    SINGLE_PROCESS,
    ProcessGroup,
    TrainedNetwork,
    adapt,
    fine_tune,
    train,
    train_foundation,
)
from make_us_rich.market.candles import Candles

FOUNDATION = "foundation"
"""Replaces the pair in the metadata of a foundation model."""

OnStep = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class FittedModel:
    """A model that passed its checks, with everything that is logged of it.

    onnx: the graph, as onnx_model.py describes it. weights: see architectures.to_npz. metrics: on the holdout.
    input_example: the graph's inputs for the newest forecast of the holdout. naive: the random walk's forecasts of the
    same candles.
    """

    onnx: bytes
    weights: bytes
    params: dict[str, str | int | float]
    metrics: dict[str, float]
    curves: list[dict[str, float]]
    input_example: GraphInputs
    holdout: HoldoutForecasts
    naive: HoldoutForecasts


@dataclass(frozen=True, eq=False)
class PreparedPair:
    """The samples of one pair, and the aligned candles that they were made of."""

    aligned: AlignedCandles
    split: Split

    @property
    def past_returns(self) -> NDArray[np.float64]:
        """The returns of one candle before the holdout, [n], which baselines are fitted on."""
        return self.split.past.target[:, 0].double().numpy()


def prepare(
    candles: Candles,
    reference: Candles,
    *,
    interval: Interval,
    as_of_ms: int,
    config: TrainingConfig,
    on_step: OnStep = lambda step: None,
    may_have_ended: bool = False,
) -> PreparedPair:
    """Make the samples of the candles that closed at or before `as_of_ms`, split into train, validation and holdout.

    `may_have_ended`: accept a delisted pair, which has nothing to validate on and no holdout. Raises NotEnoughHistory,
    BadCandles, or InputError for an unknown architecture or a config of another interval.
    """
    if config.interval != interval:
        raise InputError(
            f"the config is for candles of {config.interval}, not {interval}: use TrainingConfig.of", field="interval"
        )
    on_step("features")
    aligned = align_candles(candles, reference, interval=interval, as_of_ms=as_of_ms, max_bridged=config.max_bridged)
    on_step("sequences")
    samples = make_samples(aligned, interval=interval, config=config)
    on_step("split")
    parts = split(samples, interval=interval, as_of_ms=as_of_ms, config=config, may_have_ended=may_have_ended)
    return PreparedPair(aligned, parts)


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
    on_step: OnStep = lambda step: None,
    group: ProcessGroup = SINGLE_PROCESS,
) -> FittedModel:
    """Train on candles closed at or before `as_of_ms`; later ones change no bit of the result.

    `reference` are BTC's candles. `foundation` are the weights to fine-tune, of a FittedModel with the same config and
    an as_of no later; without them the pair is trained from scratch. `on_step` is called with the name of each step as
    it begins. Raises NotEnoughHistory, BadCandles, BadModel, or InputError for an unknown architecture.
    """
    prepared = prepare(candles, reference, interval=interval, as_of_ms=as_of_ms, config=config, on_step=on_step)
    trained = train_pair(
        prepared, as_of_ms=as_of_ms, config=config, foundation=foundation, device=device, on_step=on_step, group=group
    )
    return export_and_evaluate(
        prepared, trained, pair=pair, interval=interval, as_of_ms=as_of_ms, config=config, on_step=on_step
    )


def train_pair(
    prepared: PreparedPair,
    *,
    as_of_ms: int,
    config: TrainingConfig,
    foundation: bytes | None = None,
    device: str = "cpu",
    on_step: OnStep = lambda step: None,
    group: ProcessGroup = SINGLE_PROCESS,
) -> TrainedNetwork:
    """Run the second step of `fit`: training from scratch, or fine-tuning of the foundation."""
    samples, validation = prepared.split.train.to(device), prepared.split.validation.to(device)
    if foundation is None:
        return train(samples, validation, config, on_step, group)
    return fine_tune(from_npz(foundation, config, as_of_ms), samples, validation, config, on_step, group)


def export_and_evaluate(
    prepared: PreparedPair,
    trained: TrainedNetwork,
    *,
    pair: str,
    interval: Interval,
    as_of_ms: int,
    config: TrainingConfig,
    on_step: OnStep = lambda step: None,
) -> FittedModel:
    """Run the last step of `fit`: ONNX export, parity check and metrics."""
    on_step("convert")
    graph = _export(trained, config, pair=pair, interval=interval, as_of_ms=as_of_ms)
    on_step("validate")
    forecasts, example = _checked_forecasts(graph, trained, prepared, config, interval)
    baseline = _naive_forecasts(prepared, forecasts)
    return FittedModel(
        onnx=graph,
        weights=to_npz(trained.network, as_of_ms),
        params=_params(config) | {"start": trained.start, "train_rows": len(prepared.split.train)},
        metrics=metrics(forecasts, baseline),
        curves=trained.curves,
        input_example=example,
        holdout=forecasts,
        naive=baseline,
    )


def fit_foundation(
    candles_by_pair: Mapping[str, Candles],
    reference: Candles,
    *,
    interval: Interval,
    as_of_ms: int,
    config: TrainingConfig,
    device: str = "cpu",
    group: ProcessGroup = SINGLE_PROCESS,
) -> FittedModel:
    """Train one model on many pairs: to be fine-tuned for each, and to forecast pairs with too little history.

    Pairs without enough usable history are left out; delisted ones are trained on. See `fit_foundation_on`. Raises
    NotEnoughHistory when no pair has enough.
    """
    prepared = {}
    for pair, candles in candles_by_pair.items():
        with suppress(NotEnoughHistory, BadCandles):
            prepared[pair] = prepare(
                candles, reference, interval=interval, as_of_ms=as_of_ms, config=config, may_have_ended=True
            )
    return fit_foundation_on(prepared, interval=interval, as_of_ms=as_of_ms, config=config, device=device, group=group)


def fit_foundation_on(
    prepared: Mapping[str, PreparedPair],
    *,
    interval: Interval,
    as_of_ms: int,
    config: TrainingConfig,
    device: str = "cpu",
    group: ProcessGroup = SINGLE_PROCESS,
) -> FittedModel:
    """Train one model on prepared pairs. Its `holdout` has one forecast for each pair and candle, pair after pair.

    The order of the argument changes nothing: the pairs are sorted by name. A pair without half of the holdout, as a
    delisted one, is trained on and not judged.

    Pairs move together, and a network that sees an hour of the market too often memorises it. Training is therefore
    budgeted by hours: each epoch draws `config.foundation_draws` samples of each hour, of any number of pairs. Raises
    NotEnoughHistory when there is no pair.
    """
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
        return draw(everything, draws, seed=config.seed, epoch=epoch).to(device)

    trained = train_foundation(
        drawn,
        draw(newest, epochs * draws, seed=config.seed).to(device),
        replace(config, epochs=epochs, learning_rate=config.foundation_learning_rate, batch=2 * config.batch),
        group,
    )
    graph = _export(trained, config, pair=FOUNDATION, interval=interval, as_of_ms=as_of_ms)
    session = open_session(graph)  # once for all pairs: it takes longer than the forecasts of one
    evaluated = [_checked_forecasts(session, trained, item, config, interval) for item in judged]
    example = evaluated[-1][1]
    naives = [_naive_forecasts(item, own) for item, (own, _) in zip(judged, evaluated, strict=True)]
    together = _join([own for own, _ in evaluated])
    del evaluated  # 2.5 MB for each pair
    baseline = _join(naives)
    return FittedModel(
        onnx=graph,
        weights=to_npz(trained.network, as_of_ms),
        params=_params(config) | {"pairs": ",".join(prepared), "train_rows": epochs * draws * candles},
        metrics=metrics(together, baseline),
        curves=trained.curves,
        input_example=example,
        holdout=together,
        naive=baseline,
    )


def adapt_foundation(
    candles: Candles,
    reference: Candles,
    *,
    interval: Interval,
    as_of_ms: int,
    config: TrainingConfig,
    foundation: bytes,
) -> FittedModel:
    """Adapt a foundation to one pair that has no model of its own: its level of volatility and its calibration.

    Like `fit`, on candles closed at or before `as_of_ms`, but no weight is trained, which takes a tenth of the time and
    needs less history. The graph is for this pair alone; its metadata says `foundation` for the pair. `foundation` are
    the weights, as for `fit`. Raises NotEnoughHistory, BadCandles or BadModel.
    """
    config = adapting(config)
    prepared = prepare(candles, reference, interval=interval, as_of_ms=as_of_ms, config=config)
    adapted = adapt(from_npz(foundation, config, as_of_ms), prepared.split.train, config)
    return export_and_evaluate(prepared, adapted, pair=FOUNDATION, interval=interval, as_of_ms=as_of_ms, config=config)


def adapting(config: TrainingConfig) -> TrainingConfig:
    """Return the config with the split of `adapt_foundation`: nothing to validate on, and as little as that before."""
    return replace(config, validation=0, least_training=config.validation)


def evaluate_model(graph: bytes, prepared: PreparedPair, *, interval: Interval) -> HoldoutForecasts:
    """Forecast the holdout of a prepared pair with an existing model. Raises BadModel."""
    try:
        context = int(metadata_of(graph)[META_CONTEXT_LENGTH])
    except (KeyError, ValueError):
        raise BadModel(f"the model's metadata has no {META_CONTEXT_LENGTH}") from None
    return _forecast_holdout(graph, prepared, interval, context)[0]


def _export(trained: TrainedNetwork, config: TrainingConfig, *, pair: str, interval: Interval, as_of_ms: int) -> bytes:
    trained.network.cpu()
    metadata = {
        META_PAIR: pair,
        META_INTERVAL: interval,
        META_ARCHITECTURE: config.architecture,
        META_AS_OF_MS: str(as_of_ms),
    }
    return to_onnx(trained.network, config, metadata)


def _checked_forecasts(
    graph: bytes | InferenceSession,
    trained: TrainedNetwork,
    prepared: PreparedPair,
    config: TrainingConfig,
    interval: Interval,
) -> tuple[HoldoutForecasts, GraphInputs]:
    """Return the holdout's forecasts and the inputs of the newest one. Raises BadModel if the parity check fails."""
    forecasts, inputs = _forecast_holdout(graph, prepared, interval, context_length(config))
    check_parity(forecasts.quantiles, trained.network, config, inputs)
    return forecasts, {name: array[-1:].copy() for name, array in inputs.items()}


def _forecast_holdout(
    graph: bytes | InferenceSession, prepared: PreparedPair, interval: Interval, context: int
) -> tuple[HoldoutForecasts, GraphInputs]:
    holdout = prepared.split.holdout
    usable, inputs = graph_inputs(prepared.aligned, holdout.target_open_ms, interval=interval, context=context)
    _, log_returns = run_onnx(graph, inputs)
    return holdout_forecasts(holdout.target_open_ms[usable], log_returns, holdout.target.numpy()[usable]), inputs


def _naive_forecasts(prepared: PreparedPair, model: HoldoutForecasts) -> HoldoutForecasts:
    """Forecast the same candles with the random walk, at the same horizons."""
    quantiles = naive(prepared.past_returns, model.target[:, 0], range(1, model.horizons + 1))
    return holdout_forecasts(model.target_open_ms, quantiles, model.target)


def _join(forecasts: Sequence[HoldoutForecasts]) -> HoldoutForecasts:
    columns = zip(*(vars(item).values() for item in forecasts), strict=True)
    return HoldoutForecasts(*map(np.concatenate, columns))


def _params(config: TrainingConfig) -> dict[str, str | int | float]:
    return {**asdict(config), "context_length": context_length(config)}
