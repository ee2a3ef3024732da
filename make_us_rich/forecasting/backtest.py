"""Walk-forward: train on the year before each window, forecast every candle in it, score beside the baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from make_us_rich.core.errors import NotEnoughHistory
from make_us_rich.core.interval import Interval
from make_us_rich.documents import QUANTILE_NAMES
from make_us_rich.forecasting import baselines
from make_us_rich.forecasting.evaluation import HeldOut, coverage, diebold_mariano, held_out
from make_us_rich.forecasting.features import HAR, LOG_VARIANCES
from make_us_rich.forecasting.pipeline import fit, fit_foundation, prepare
from make_us_rich.forecasting.training_config import TrainingConfig
from make_us_rich.market.candles import Candles

WINDOW = 35 * 24
"""Candles of a window: five weeks of hours."""

MODEL = "model"
BASELINES = ("naive", "rolling", "ewma", "garch_t", "linear_har", "linear_all")


@dataclass(frozen=True, eq=False)
class WindowResult:
    """One pair and window: forecasts by model name (MODEL or one of BASELINES), all of the same candles."""

    pair: str
    start_ms: int
    forecasts: dict[str, HeldOut]
    curves: list[dict[str, float]]


def backtest(
    markets: Mapping[str, Candles],
    reference: Candles,
    *,
    interval: Interval,
    starts_ms: Sequence[int],
    config: TrainingConfig,
    window: int = WINDOW,
    shared: bool = True,
    on_result: Callable[[WindowResult], None] = lambda result: None,
) -> list[WindowResult]:
    """Every pair in every window; see backtest_window."""
    results = []
    for start_ms in starts_ms:
        results += backtest_window(
            markets,
            reference,
            interval=interval,
            start_ms=start_ms,
            config=config,
            window=window,
            shared=shared,
            on_result=on_result,
        )
    return results


def backtest_window(
    markets: Mapping[str, Candles],
    reference: Candles,
    *,
    interval: Interval,
    start_ms: int,
    config: TrainingConfig,
    window: int,
    shared: bool = True,
    on_result: Callable[[WindowResult], None] = lambda result: None,
) -> list[WindowResult]:
    """Every pair in one window of so many candles. `markets` maps pairs to candles, `reference` are BTC's.

    shared: train one model of all pairs first, and fine-tune it for each. Otherwise every pair is trained from
    nothing. A pair without enough history for the window is left out of it.
    """
    end_ms = start_ms + window * interval.ms
    judged = replace(config, holdout=window)
    foundation = None
    if shared:
        foundation = fit_foundation(markets, reference, interval=interval, as_of_ms=end_ms, config=judged).weights
    results = []
    for pair, candles in markets.items():
        try:
            fitted = fit(
                candles, reference, pair=pair, interval=interval, as_of_ms=end_ms, config=judged, foundation=foundation
            )
        except NotEnoughHistory:
            continue
        others = baseline_forecasts(candles, reference, interval=interval, as_of_ms=end_ms, config=judged)
        result = WindowResult(pair, start_ms, {MODEL: fitted.held_out, **others}, fitted.curves)
        on_result(result)
        results.append(result)
    return results


def baseline_forecasts(
    candles: Candles, reference: Candles, *, interval: Interval, as_of_ms: int, config: TrainingConfig
) -> dict[str, HeldOut]:
    """The baselines' forecasts of the held-out candles, each fitted on training and validation rows."""
    plain = replace(config, architecture="linear")  # for its features, whatever the model reads
    parts = prepare(candles, reference, interval=interval, as_of_ms=as_of_ms, config=plain).split
    past = torch.cat([parts.train.target, parts.validation.target]).double().numpy()
    coming = parts.holdout.target.double().numpy()
    static = torch.cat([parts.train.static, parts.validation.static, parts.holdout.static]).double().numpy()
    regressors = np.concatenate([np.exp(0.5 * static[:, :LOG_VARIANCES]), static[:, LOG_VARIANCES:]], axis=1)
    quantiles = {
        "naive": baselines.naive(past, coming),
        "rolling": baselines.rolling(past, coming),
        "ewma": baselines.ewma(past, coming),
        "garch_t": baselines.garch_t(past, coming),
        "linear_har": baselines.linear_quantiles(regressors[:, HAR], past, coming),
        "linear_all": baselines.linear_quantiles(regressors, past, coming),
    }
    times = parts.holdout.target_open_ms
    return {name: held_out(times, values, coming) for name, values in quantiles.items()}


def forecasts_table(
    results: Sequence[WindowResult], markets: Mapping[str, Candles], interval: Interval, architecture: str
) -> pa.Table:
    """One row a forecast: pair, target_open_ms, model, q05 ... q95 (prices), last_close, close, made_at (UTC).

    model is the architecture, or the name of a baseline.
    """
    step, parts = interval.ms, []
    for result in results:
        candles = markets[result.pair]
        for model, forecast in result.forecasts.items():
            known = np.searchsorted(candles.open_time_ms, forecast.target_open_ms - step, side="right") - 1
            last_close = candles.close[known]
            prices = last_close[:, None] * np.exp(forecast.quantiles)
            parts.append(
                pa.table(
                    {
                        "pair": [result.pair] * len(forecast.target),
                        "target_open_ms": forecast.target_open_ms,
                        "model": [architecture if model == MODEL else model] * len(forecast.target),
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
    """The model against one baseline, over pair-windows: fractions, and the share of windows won.

    t is Diebold-Mariano's over hours: of each hour the mean over pairs of the loss difference, each pair's relative to
    the baseline's mean loss in that window, so that pairs which move together do not count as many.
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
    """Means over pair-windows, each counting alike. Raises NotEnoughHistory when there is none."""
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
    relative = []  # of each pair-window: the loss difference by hour, its mean is the skill
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


def _losses(forecast: HeldOut) -> pd.Series:
    return pd.Series(forecast.losses, index=forecast.target_open_ms)
