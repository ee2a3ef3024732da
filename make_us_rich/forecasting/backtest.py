"""Walk-forward backtest: train on the year before each window, forecast every candle in it, compare with baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from make_us_rich.core.errors import NotEnoughHistory
from make_us_rich.core.interval import Interval
from make_us_rich.documents import QUANTILE_NAMES
from make_us_rich.forecasting import baselines
from make_us_rich.forecasting.architectures import TrainingConfig, architecture
from make_us_rich.forecasting.evaluation import HoldoutForecasts, coverage, diebold_mariano, holdout_forecasts
from make_us_rich.forecasting.features import HAR, LOG_VARIANCES, sequence_features
from make_us_rich.forecasting.pipeline import PreparedPair, export_and_evaluate, fit_foundation_on, prepare, train_pair
from make_us_rich.market.candles import Candles

WINDOW = 35 * 24
"""Length of a window in candles: five weeks of hours."""

MODEL = "model"
BASELINES = ("naive", "rolling", "ewma", "garch_t", "linear_har", "linear_all")


@dataclass(frozen=True, eq=False)
class WindowResult:
    """The forecasts of one pair and window by model name (MODEL or one of BASELINES), all of the same candles."""

    pair: str
    start_ms: int
    forecasts: dict[str, HoldoutForecasts]
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
    on_result: Callable[[WindowResult], None] = lambda result: None,
) -> list[WindowResult]:
    """Backtest every pair in one window of `window` candles. `reference` are BTC's candles.

    foundation: train one model of all pairs first and fine-tune it for each; otherwise train each pair from scratch.
    Pairs without enough history for the window are left out. Raises BadCandles, and NotEnoughHistory when a foundation
    is wanted and no pair has enough.
    """
    end_ms = start_ms + window * interval.ms
    config = replace(config, holdout=window)
    prepared = {}
    for pair, candles in candles_by_pair.items():
        with suppress(NotEnoughHistory):
            prepared[pair] = prepare(candles, reference, interval=interval, as_of_ms=end_ms, config=config)
    weights = None
    if foundation:
        weights = fit_foundation_on(prepared, interval=interval, as_of_ms=end_ms, config=config).weights
    results = []
    for pair, item in prepared.items():
        trained = train_pair(item, as_of_ms=end_ms, config=config, foundation=weights)
        fitted = export_and_evaluate(item, trained, pair=pair, interval=interval, as_of_ms=end_ms, config=config)
        if architecture(config.architecture).features is not sequence_features:  # the baselines read these
            linear = replace(config, architecture="linear")
            item = prepare(candles_by_pair[pair], reference, interval=interval, as_of_ms=end_ms, config=linear)
        forecasts = {MODEL: fitted.holdout, **baseline_forecasts(item)}
        result = WindowResult(pair, start_ms, forecasts, fitted.curves)
        on_result(result)
        results.append(result)
    return results


def baseline_forecasts(prepared: PreparedPair) -> dict[str, HoldoutForecasts]:
    """Forecast the holdout with every baseline, each fitted on the training and validation samples."""
    parts, past = prepared.split, prepared.past_returns
    actual = parts.holdout.target.double().numpy()
    static = torch.cat([parts.train.static, parts.validation.static, parts.holdout.static]).double().numpy()
    regressors = np.concatenate([np.exp(0.5 * static[:, :LOG_VARIANCES]), static[:, LOG_VARIANCES:]], axis=1)
    quantiles = {
        "naive": baselines.naive(past, actual),
        "rolling": baselines.rolling(past, actual),
        "ewma": baselines.ewma(past, actual),
        "garch_t": baselines.garch_t(past, actual),
        "linear_har": baselines.linear_quantiles(regressors[:, HAR], past, actual),
        "linear_all": baselines.linear_quantiles(regressors, past, actual),
    }
    times = parts.holdout.target_open_ms
    return {name: holdout_forecasts(times, values, actual) for name, values in quantiles.items()}


def forecasts_table(
    results: Sequence[WindowResult], candles_by_pair: Mapping[str, Candles], interval: Interval, architecture_name: str
) -> pa.Table:
    """Make a table with one row for each forecast.

    Columns: pair, target_open_ms, model, q05 ... q95 (prices), last_close, close, made_at (UTC). model is the
    architecture, or the name of a baseline.
    """
    step, parts = interval.ms, []
    for result in results:
        candles = candles_by_pair[result.pair]
        for model, forecast in result.forecasts.items():
            known = np.searchsorted(candles.open_time_ms, forecast.target_open_ms - step, side="right") - 1
            last_close = candles.close[known]
            prices = last_close[:, None] * np.exp(forecast.quantiles)
            parts.append(
                pa.table(
                    {
                        "pair": [result.pair] * len(forecast.target),
                        "target_open_ms": forecast.target_open_ms,
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

    t is the Diebold-Mariano statistic over hours. The loss difference of an hour is the mean over pairs, each relative
    to the baseline's mean loss in that window, so that pairs which move together do not count several times.
    """

    baseline: str
    skill: float
    won: float
    t: float


@dataclass(frozen=True)
class Summary:
    windows: int
    skills: tuple[Skill, ...]
    coverage_80: float
    coverage_90: float
    mae_gain: float
    rmse_gain: float
    direction: float


def summarise(results: Sequence[WindowResult]) -> Summary:
    """Average over pair-windows with equal weights. Raises NotEnoughHistory when there is none."""
    if not results:
        raise NotEnoughHistory("no pair had enough history for any window")
    ours = [result.forecasts[MODEL] for result in results]
    gains = []
    for item in ours:
        error, moved = item.target - item.quantiles[:, 3], item.target != 0
        right = np.sign(item.quantiles[moved, 3]) == np.sign(item.target[moved])
        gains.append(
            (
                coverage(item.quantiles, item.target, 0.8),
                coverage(item.quantiles, item.target, 0.9),
                1 - np.abs(error).mean() / np.abs(item.target).mean(),
                1 - np.sqrt((error**2).mean() / (item.target**2).mean()),
                right.mean(),
            )
        )
    means = [float(value) for value in np.mean(gains, axis=0)]
    return Summary(len(results), tuple(_skill(results, name) for name in BASELINES), *means)


def _skill(results: Sequence[WindowResult], baseline: str) -> Skill:
    relative = []  # loss differences by hour, one series for each pair-window; the mean of a series is its skill
    for result in results:
        losses = pd.DataFrame({name: _losses(result.forecasts[name]) for name in (MODEL, baseline)}).dropna()
        relative.append((losses[baseline] - losses[MODEL]) / losses[baseline].mean())
    skills = pd.Series([gain.mean() for gain in relative])
    gains = pd.concat(relative).groupby(level=0).mean().to_numpy()
    return Skill(
        baseline,
        skill=float(skills.mean()),
        won=float((skills > 0).mean()),
        t=diebold_mariano(-gains, np.zeros_like(gains)),
    )


def _losses(forecast: HoldoutForecasts) -> pd.Series:
    return pd.Series(forecast.losses, index=forecast.target_open_ms)
