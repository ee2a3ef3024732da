"""Walk-forward backtest: train on the year before each window, forecast every candle in it, compare with baselines."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray

from make_us_rich.core.errors import NotEnoughHistory
from make_us_rich.core.interval import Interval
from make_us_rich.documents import HORIZON_GRID, QUANTILE_LEVELS, QUANTILE_NAMES
from make_us_rich.forecasting.architectures import TrainingConfig, architecture, from_npz, new_network
from make_us_rich.forecasting.baselines import EWMA, GARCH, NAIVE, ROLLING, baseline_forecasts, linear_quantiles
from make_us_rich.forecasting.dataset import PreparedPair, prepare
from make_us_rich.forecasting.evaluation import HoldoutForecasts, HorizonSeries, coverage, diebold_mariano, pinball
from make_us_rich.forecasting.features import feature_layout, sequence_features
from make_us_rich.forecasting.networks import ScaledQuantiles
from make_us_rich.forecasting.probabilities import ProbabilityScore, pool, score_probabilities
from make_us_rich.forecasting.recipe import export_and_evaluate, fit_foundation_on, train_pair
from make_us_rich.forecasting.samples import concatenate
from make_us_rich.forecasting.training import TrainingTask, adapt
from make_us_rich.market.candles import Candles

Array = NDArray[np.float64]

WINDOW = 35 * 24
"""Length of a window in candles: five weeks of hours."""

HORIZONS_COMPARED = (1, 4, 8, 24)
"""The horizons at which a backtest compares by default; any of HORIZON_GRID can be."""

MODEL = "model"
LOG_HAR, LINEAR = "log_har", "linear_har"
BASELINES = (NAIVE, ROLLING, EWMA, GARCH, LOG_HAR, LINEAR)
_UNIT = 0.01  # the regression's constant, of the size of a return


@dataclass(frozen=True, eq=False)
class WindowResult:
    """The forecasts of one pair and window: by horizon, then by model name (MODEL or one of BASELINES).

    The models of one horizon forecast the same candles. probabilities: of the model, by horizon. inside_throughout:
    share of the model's paths over all horizons that stay in the 80 % band; None for a model of one horizon.
    """

    pair: str
    start_ms: int
    forecasts: dict[int, dict[str, HorizonSeries]]
    probabilities: dict[int, ProbabilityScore]
    inside_throughout: float | None
    curves: list[dict[str, float]]


def backtest_window(
    candles_by_pair: Mapping[str, Candles],
    reference: Candles,
    *,
    interval: Interval,
    start_ms: int,
    config: TrainingConfig,
    window: int = WINDOW,
    foundation: bool = True,
    untrained: Collection[str] = (),
    horizons: Sequence[int] = HORIZONS_COMPARED,
    on_result: Callable[[WindowResult], None] = lambda result: None,
) -> list[WindowResult]:
    """Backtest every pair in one window of `window` candles. `reference` are BTC's candles.

    foundation: train one model of all pairs first and fine-tune it for each; otherwise train each pair from scratch.
    untrained: if given, the pairs to score; the foundation learns from the others, and is only adapted to these.
    horizons: to compare at, of HORIZON_GRID; those that the model does not forecast are left out.
    Pairs without enough history for the window are left out. Raises BadCandles, and NotEnoughHistory when a foundation
    is wanted and no pair has enough.
    """
    end_ms = start_ms + window * interval.ms
    config = replace(config, holdout=window)
    task, prepared = TrainingTask(end_ms, config), {}
    for pair, candles in candles_by_pair.items():
        with suppress(NotEnoughHistory):
            prepared[pair] = prepare(candles, reference, task)
    weights = None
    if foundation:
        learned = {pair: item for pair, item in prepared.items() if pair not in untrained}
        weights = fit_foundation_on(learned, task).weights
    results = []
    for pair, item in prepared.items():
        if untrained and pair not in untrained:
            continue
        if weights is not None and untrained:
            samples = concatenate([item.split.train, item.split.validation])
            trained = adapt(from_npz(weights, config, end_ms), samples, config)
        else:
            trained = train_pair(item, task, weights)
        fitted = export_and_evaluate(item, trained, task, pair=pair)
        if architecture(config.architecture).features is not sequence_features:  # the baselines read these
            linear = replace(task, config=replace(config, architecture="linear"))
            item = prepare(candles_by_pair[pair], reference, linear)
        tails = trained.network.tails().double().numpy()
        result = compare_with_baselines(
            item,
            fitted.holdout,
            tails,
            pair=pair,
            start_ms=start_ms,
            interval=interval,
            horizons=horizons,
            curves=fitted.curves,
        )
        on_result(result)
        results.append(result)
    return results


def compare_with_baselines(
    prepared: PreparedPair,
    ours: HoldoutForecasts,
    tails: Array,
    *,
    pair: str,
    start_ms: int,
    interval: Interval,
    horizons: Sequence[int] = HORIZONS_COMPARED,
    names: Collection[str] = BASELINES,
    curves: Sequence[dict[str, float]] = (),
) -> WindowResult:
    """Compare a model's forecasts of the holdout with the baselines of these names, NAIVE among them.

    tails: the model's, [horizons, 2]. start_ms: the first open time of the holdout.
    """
    known = [horizon for horizon in horizons if horizon <= ours.horizons]
    forecasts = _same_candles(
        ours, _compared_forecasts(prepared, known, interval, names), prepared.split.holdout.target_open_ms, known
    )
    return WindowResult(
        pair,
        start_ms,
        forecasts,
        {horizon: _score_probabilities(prepared, forecasts[horizon], tails, horizon) for horizon in known},
        ours.inside_throughout() if ours.horizons > 1 else None,
        list(curves),
    )


def _compared_forecasts(
    prepared: PreparedPair, horizons: Sequence[int], interval: Interval, names: Collection[str]
) -> dict[str, Array]:
    """Forecast the holdout with the baselines of these names, point in time: quantiles [n, horizons, 7].

    Those of the log-HAR volatility are fitted once, on the samples before the holdout.
    """
    times = prepared.split.holdout.target_open_ms
    plain = [name for name in names if name not in (LOG_HAR, LINEAR)]
    found = baseline_forecasts(prepared.closed, interval.ms, times, horizons, plain, least=0)  # the split needs more
    if LOG_HAR in names or LINEAR in names:
        found |= _linear_forecasts(prepared, horizons, interval)
    return {name: found[name] for name in names}


def _linear_forecasts(prepared: PreparedPair, horizons: Sequence[int], interval: Interval) -> dict[str, Array]:
    """Forecast with the network's own log-HAR volatility of each horizon.

    LOG_HAR: times the constant quantiles of the past standardised returns. LINEAR: a quantile regression on the HAR
    features and this volatility, in which each row is divided by it.
    """
    past, holdout, layout = prepared.split.past, prepared.split.holdout, feature_layout(interval)
    scaled = new_network(TrainingConfig.of(interval, "linear"))
    if not isinstance(scaled, ScaledQuantiles):
        raise TypeError("the architecture `linear` has no volatility")
    scaled.fit_scaling(past.complete())
    static = torch.cat([past.static, holdout.static])
    deviations, features, targets = (item.double().numpy() for item in (scaled.scale(static), static, past.target))
    variances = layout.log_variances
    levels = np.column_stack([np.exp(0.5 * features[:, :variances]), features[:, variances:]])
    found: dict[str, list[Array]] = {LOG_HAR: [], LINEAR: []}
    for horizon in horizons:
        deviation, target = deviations[:, HORIZON_GRID.index(horizon)], targets[:, horizon - 1]
        constant = np.nanquantile(target / deviation[: len(target)], QUANTILE_LEVELS)
        found[LOG_HAR].append(deviation[len(target) :, None] * constant)
        chosen = np.column_stack(
            [levels[:, [*layout.har, *layout.profile_until(horizon)]], np.full(len(static), _UNIT)]
        )
        found[LINEAR].append(linear_quantiles(chosen / deviation[:, None], target, deviation))
    return {name: np.stack(each, axis=1) for name, each in found.items()}


def _score_probabilities(
    prepared: PreparedPair, forecasts: Mapping[str, HorizonSeries], tails: Array, horizon: int
) -> ProbabilityScore:
    past = prepared.split.past.target[:, horizon - 1].double().numpy()
    return score_probabilities(forecasts[MODEL], tails[horizon - 1], forecasts[NAIVE], scale=float(np.nanstd(past)))


def _same_candles(
    ours: HoldoutForecasts, others: Mapping[str, Array], other_open_ms: NDArray[np.int64], horizons: Sequence[int]
) -> dict[int, dict[str, HorizonSeries]]:
    """Return the forecasts by horizon and model, at the candles that all forecast and whose close is known.

    others: quantiles [n, horizons, 7] of the candles `other_open_ms`, [n].
    """
    found: dict[int, dict[str, HorizonSeries]] = {}
    for index, horizon in enumerate(horizons):
        model = ours.at(horizon)
        times, mine, theirs = np.intersect1d(model.target_open_ms, other_open_ms, return_indices=True)
        target = model.target[mine]
        quantiles = {MODEL: model.quantiles[mine]} | {name: item[theirs, index] for name, item in others.items()}
        found[horizon] = {
            name: HorizonSeries(times, item, target, pinball(item, target)) for name, item in quantiles.items()
        }
    return found


def forecasts_table(
    results: Sequence[WindowResult], candles_by_pair: Mapping[str, Candles], interval: Interval, architecture_name: str
) -> pa.Table:
    """Make a table with one row for each forecast.

    Columns: pair, target_open_ms, horizon, model, q05 ... q95 (prices), last_close, close, made_at (UTC).
    target_open_ms is of the candle after the forecast, whose close is 1 candle ahead. model is the architecture, or the
    name of a baseline.
    """
    step, parts = interval.ms, []
    for result in results:
        candles = candles_by_pair[result.pair]
        each = [(h, model, item) for h, models in result.forecasts.items() for model, item in models.items()]
        for horizon, model, forecast in each:
            known = np.searchsorted(candles.open_time_ms, forecast.target_open_ms - step, side="right") - 1
            last_close = candles.close[known]
            prices = last_close[:, None] * np.exp(forecast.quantiles)
            parts.append(
                pa.table(
                    {
                        "pair": [result.pair] * len(forecast.target),
                        "target_open_ms": forecast.target_open_ms,
                        "horizon": pa.array([horizon] * len(forecast.target), pa.int16()),
                        "model": [architecture_name if model == MODEL else model] * len(forecast.target),
                        **dict(zip(QUANTILE_NAMES, prices.T, strict=True)),
                        "last_close": last_close,
                        "close": last_close * np.exp(forecast.target),
                        "made_at": pa.array(forecast.target_open_ms, pa.timestamp("ms", tz="UTC")),
                    }
                )
            )
    return pa.concat_tables(parts)


@dataclass(frozen=True)
class Skill:
    """The model compared with one baseline: skill (a fraction), the share of pair-windows won, and t.

    t is the Diebold-Mariano statistic over hours, with at least as many Newey-West lags as the horizon, because the
    targets overlap. The loss difference of an hour is the mean over pairs, each relative to the baseline's mean loss in
    that window, so that pairs which move together do not count several times.
    """

    baseline: str
    skill: float
    won: float
    t: float


@dataclass(frozen=True)
class HorizonSummary:
    """How the model did at one horizon. Gains are over the naive forecast; direction is the share that was right.

    uneven_coverage: share of pair-windows in which the 80 % band covers less than 75 or more than 85 % of the closes.
    """

    horizon: int
    skills: tuple[Skill, ...]
    probabilities: ProbabilityScore
    coverage_80: float
    coverage_90: float
    uneven_coverage: float
    mae_gain: float
    rmse_gain: float
    direction: float


@dataclass(frozen=True)
class Summary:
    """inside_throughout: see WindowResult."""

    windows: int
    horizons: tuple[HorizonSummary, ...]
    inside_throughout: float | None


def summarise(results: Sequence[WindowResult]) -> Summary:
    """Average over pair-windows with equal weights. Raises NotEnoughHistory when there is none."""
    if not results:
        raise NotEnoughHistory("no pair had enough history for any window")
    inside = [result.inside_throughout for result in results if result.inside_throughout is not None]
    return Summary(
        len(results),
        tuple(_summarise_horizon(results, horizon) for horizon in results[0].forecasts),
        float(np.mean(inside)) if inside else None,
    )


def _summarise_horizon(results: Sequence[WindowResult], horizon: int) -> HorizonSummary:
    gains = []
    for item in (result.forecasts[horizon][MODEL] for result in results):
        error, moved = item.target - item.quantiles[:, 3], item.target != 0
        right = np.sign(item.quantiles[moved, 3]) == np.sign(item.target[moved])
        covered = coverage(item.quantiles, item.target, 0.8)
        gains.append(
            (
                covered,
                coverage(item.quantiles, item.target, 0.9),
                abs(covered - 0.8) > 0.05,
                1 - np.abs(error).mean() / np.abs(item.target).mean(),
                1 - np.sqrt((error**2).mean() / (item.target**2).mean()),
                right.mean(),
            )
        )
    means = [float(value) for value in np.mean(gains, axis=0)]
    compared = [name for name in results[0].forecasts[horizon] if name != MODEL]
    skills = tuple(_skill(results, horizon, name) for name in compared)
    return HorizonSummary(horizon, skills, pool([result.probabilities[horizon] for result in results]), *means)


def _skill(results: Sequence[WindowResult], horizon: int, baseline: str) -> Skill:
    relative = []  # loss differences by hour, one series for each pair-window; the mean of a series is its skill
    for result in results:
        ours, theirs = result.forecasts[horizon][MODEL], result.forecasts[horizon][baseline]
        gain = (theirs.losses - ours.losses) / theirs.losses.mean()
        relative.append(pd.Series(gain, index=ours.target_open_ms))
    skills = pd.Series([gain.mean() for gain in relative])
    gains = pd.concat(relative).groupby(level=0).mean().to_numpy()
    return Skill(
        baseline,
        skill=float(skills.mean()),
        won=float((skills > 0).mean()),
        t=diebold_mariano(-gains, np.zeros_like(gains), horizon=horizon),
    )
