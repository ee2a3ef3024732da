"""Simulated prices from a seed, for a demo without a network. Everything that shows them says SIMULATED.

An hour's log return is the sum of six heavy-tailed steps with the hour's volatility, and sometimes a jump. The
volatility is the pair's level times exp(h), where h is an AR(1) process (calm and volatile periods persist), times a
pattern over the hours of the day. Other pairs follow BTC by their beta and add noise of their own. Volume grows with
volatility. High and low are the extremes of the path, so that the range of a candle measures its volatility.

Every pair has its own random streams, drawn in order of time from a fixed day on: a restart, a later end or other pairs
change no candle.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from make_us_rich.core.interval import HOUR_MS
from make_us_rich.market.candles import Candles

FIRST_MS = 1_704_067_200_000  # 2024-01-01 00:00 UTC
_AHEAD_HOURS = 60 * 24
_STEPS = 6
_PERSISTENCE = 0.985
_VOLATILITY_OF_VOLATILITY = 0.09
_JUMPS_AN_HOUR = 0.002
_JUMP_SIZE = 6.0  # in units of the hour's volatility


@dataclass(frozen=True)
class Profile:
    """A pair's first price, hourly volatility of its own noise, beta to BTC, and typical volume (base currency).

    It is traded from `listed_ms` until `delisted_ms`.
    """

    price: float
    volatility: float
    beta: float
    volume: float
    listed_ms: int = 0
    delisted_ms: int | None = None


_BITCOIN = Profile(62_000.0, 0.0045, 0.0, 1_400.0)
PROFILES = {
    "BTCUSDT": _BITCOIN,
    "ETHUSDT": Profile(2_300.0, 0.0030, 1.05, 16_000.0),
    "BNBUSDT": Profile(310.0, 0.0032, 0.80, 21_000.0),
    "SOLUSDT": Profile(100.0, 0.0062, 1.25, 180_000.0),
    "XRPUSDT": Profile(0.62, 0.0055, 0.85, 11_000_000.0),
    "ADAUSDT": Profile(0.60, 0.0050, 1.05, 8_000_000.0),
    "DOGEUSDT": Profile(0.092, 0.0062, 1.10, 60_000_000.0),
    "LINKUSDT": Profile(15.0, 0.0058, 1.05, 300_000.0),
    "LTCUSDT": Profile(73.0, 0.0044, 0.90, 45_000.0),
    "CHZUSDT": Profile(0.086, 0.0068, 0.95, 9_000_000.0),
}


class SimulatedMarket(Mapping[str, Candles]):
    """Hourly candles by symbol, from FIRST_MS to 60 days after the start. A symbol is simulated when first read."""

    def __init__(self, profiles: Mapping[str, Profile], seed: int, now_ms: int) -> None:
        self._profiles = {"BTCUSDT": _BITCOIN, **profiles}
        self._seed = seed
        hours = (now_ms - FIRST_MS) // HOUR_MS + _AHEAD_HOURS
        self._times = FIRST_MS + np.arange(hours, dtype=np.int64) * HOUR_MS
        self._bitcoin = _steps("BTCUSDT", _BITCOIN, seed, self._times)
        self._candles: dict[str, Candles] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._profiles)

    def __len__(self) -> int:
        return len(self._profiles)

    def __contains__(self, symbol: object) -> bool:
        return symbol in self._profiles

    def __getitem__(self, symbol: str) -> Candles:
        if symbol not in self._candles:
            self._candles[symbol] = self._simulated(symbol, self._profiles[symbol])
        return self._candles[symbol]

    def _simulated(self, symbol: str, profile: Profile) -> Candles:
        if symbol == "BTCUSDT":
            return _candles(profile, self._bitcoin, None, self._times)
        steps = _steps(symbol, profile, self._seed, self._times)
        candles = _candles(profile, steps, self._bitcoin, self._times)
        ended = profile.delisted_ms or self._times[-1] + 1
        return candles[(self._times >= profile.listed_ms) & (self._times < ended)]


def simulate(
    now_ms: int, seed: int = 0, additional: Iterable[str] = (), universe: Mapping[str, Profile] | None = None
) -> SimulatedMarket:
    """Simulate the built-in pairs, those of `universe`, and the `additional` ones, with profiles from their names."""
    profiles = {symbol: random_profile(symbol) for symbol in additional}
    return SimulatedMarket(dict(universe or {}) | profiles | PROFILES, seed, now_ms)


def random_profile(symbol: str) -> Profile:
    """Derive a price, a volatility and a beta from the name of a symbol; 5 million USDT are traded an hour."""
    draw = _stream(symbol, 0, "profile")
    price = float(np.exp(draw.uniform(np.log(0.05), np.log(50))))
    return Profile(price, draw.uniform(0.004, 0.007), draw.uniform(0.8, 1.2), 5_000_000.0 / price)


@dataclass(frozen=True)
class _Steps:
    returns: NDArray[np.float64]  # [hours, steps], log
    volatility: NDArray[np.float64]  # [hours]
    volume_noise: NDArray[np.float64]  # [hours]


def _steps(symbol: str, profile: Profile, seed: int, times: NDArray[np.int64]) -> _Steps:
    hours = len(times)
    level = _autoregressive(_stream(symbol, seed, "volatility").standard_normal(hours))
    volatility = profile.volatility * np.exp(level) * _hour_pattern(times)
    normal = _stream(symbol, seed, "returns").standard_normal((hours, _STEPS))
    # heavier tails than normal, also while the volatility stays the same
    tails = np.sqrt(5 / _stream(symbol, seed, "tails").chisquare(5, (hours, _STEPS)) * 0.6)
    jump_hours = _stream(symbol, seed, "jump hours").random(hours) < _JUMPS_AN_HOUR
    jumps = jump_hours * _stream(symbol, seed, "jump sizes").standard_normal(hours) * _JUMP_SIZE
    returns = normal * tails * (volatility / np.sqrt(_STEPS))[:, None]
    returns[:, _STEPS // 2] += jumps * volatility
    return _Steps(returns, volatility, _stream(symbol, seed, "volume").standard_normal(hours))


def _candles(profile: Profile, own: _Steps, bitcoin: _Steps | None, times: NDArray[np.int64]) -> Candles:
    returns, relative = own.returns, own.volatility / profile.volatility
    if bitcoin is not None:
        returns = returns + profile.beta * bitcoin.returns
        relative = relative + abs(profile.beta) * bitcoin.volatility / _BITCOIN.volatility
    path = np.cumsum(returns, axis=1)
    hourly = path[:, -1]
    open_ = profile.price * np.exp(_reverting(hourly))
    inside = np.concatenate([np.zeros((len(times), 1)), path], axis=1)
    volume = profile.volume * relative**1.2 * np.exp(0.4 * own.volume_noise)
    return Candles(
        times,
        open_,
        open_ * np.exp(inside.max(axis=1)),
        open_ * np.exp(inside.min(axis=1)),
        open_ * np.exp(hourly),
        volume,
    )


def _autoregressive(noise: NDArray[np.float64]) -> NDArray[np.float64]:
    values = np.empty_like(noise)
    value = 0.0
    for index, shock in enumerate(noise):
        value = _PERSISTENCE * value + _VOLATILITY_OF_VOLATILITY * shock
        values[index] = value
    return values


def _reverting(hourly: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log price at each open, relative to the first.

    A slow mean reversion keeps years of random walk in a plausible range. It moves the price by a few hundredths of a
    percent between a close and the next open.
    """
    opens = np.empty_like(hourly)
    level = 0.0
    for index, change in enumerate(hourly):
        opens[index] = level
        level = (level + change) * 0.9995
    return opens


def _hour_pattern(times: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the volatility pattern of the day: highest at 15:00 UTC, lowest at 03:00."""
    hour = times // HOUR_MS % 24
    return 1 + 0.3 * np.sin((hour - 9) / 24 * 2 * np.pi)


def _stream(symbol: str, seed: int, purpose: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed} {symbol} {purpose}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))
