"""Forecasts after a gap of the exchange, and of young pairs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from make_us_rich.core.errors import NotEnoughHistory
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import Pair, Series
from make_us_rich.core.settings import Settings
from make_us_rich.documents import Forecast, ReplicaError
from make_us_rich.market import bridges
from make_us_rich.market.bridges import LONGEST_BRIDGE, bridge_gaps, extend_back
from make_us_rich.market.candles import Candles
from make_us_rich.market.window import LiveWindow, Window
from make_us_rich.registry import shipped
from make_us_rich.registry.client import TAG_SHIPPED, ModelVersion
from serve_app.replica import updater
from serve_app.replica.forecaster import Forecaster
from serve_app.replica.models import LoadedModel, ModelCache, ModelLoader

NOON_MS = 1_790_251_200_000
COUNT = 1000
ETH = Series(Pair.parse("eth_usdt"), Interval.H1)


def _walk(seed: int, count: int = COUNT, interval: Interval = Interval.H1) -> Candles:
    close = 100 * np.exp(np.cumsum(0.01 * np.random.default_rng(seed).normal(size=count + 1)))
    opened, closed = close[:-1], close[1:]
    high, low = np.maximum(opened, closed) * 1.002, np.minimum(opened, closed) * 0.998
    times = NOON_MS - interval.ms * np.arange(count, 0, -1)
    return Candles(times, opened, high, low, closed, np.full(count, 5.0))


def _without(candles: Candles, hours: int, ended: int) -> Candles:
    """Leave out `hours` candles; the gap ended `ended` candles ago."""
    keep = np.ones(len(candles), dtype=bool)
    keep[len(candles) - ended - hours : len(candles) - ended] = False
    return candles[keep]


@pytest.mark.parametrize(("hours", "ended"), [(4, 48), (24, 1), (LONGEST_BRIDGE, 300), (30, 100)])
def test_a_bridged_gap_has_the_candles_of_the_same_hours_before(hours: int, ended: int) -> None:
    whole = _walk(1)
    bridged, until_ms = bridge_gaps(_without(whole, hours, ended), Interval.H1)

    np.testing.assert_array_equal(bridged.open_time_ms, whole.open_time_ms)
    assert until_ms == NOON_MS - ended * HOUR_MS
    first = COUNT - ended - hours
    np.testing.assert_array_equal(bridged.close[:first], whole.close[:first])
    np.testing.assert_array_equal(bridged.close[first + hours :], whole.close[first + hours :])
    made = slice(first, first + hours)
    back = -(-hours // 24) * 24
    before = slice(first - back, first - back + hours)
    assert bridged.open[first] == pytest.approx(whole.close[first - 1])
    for name in ("high", "low", "close"):
        expected = getattr(whole, name)[before] / whole.open[before]
        assert getattr(bridged, name)[made] / bridged.open[made] == pytest.approx(expected)


@pytest.mark.parametrize(("hours", "ended"), [(3, 48), (LONGEST_BRIDGE + 1, 48), (24, COUNT - 30)])
def test_short_and_very_long_gaps_and_one_after_too_few_candles_stay(hours: int, ended: int) -> None:
    gapped = _without(_walk(1), hours, ended)
    bridged, until_ms = bridge_gaps(gapped, Interval.H1)
    assert (len(bridged), until_ms) == (len(gapped), 0)


@pytest.mark.parametrize("known", [48, 100, 500])
def test_before_the_first_candle_the_first_days_are_repeated(known: int) -> None:
    young = _walk(2, known)
    extended = extend_back(young, Interval.H1, 744)
    assert len(extended) == 744
    assert (np.diff(extended.open_time_ms) == HOUR_MS).all()
    np.testing.assert_array_equal(extended.close[-known:], young.close)
    made = 744 - known
    assert extended.open[1 : made + 1] == pytest.approx(extended.close[:made])
    usual = np.std(np.log(young.close / young.open))
    assert np.std(np.log(extended.close / extended.open)[:made]) == pytest.approx(usual, rel=0.3)


def test_too_few_candles_are_refused_with_the_time_at_which_they_will_be_enough() -> None:
    with pytest.raises(
        NotEnoughHistory, match=r"20 candles since .* needs 48, which will be there at 2026-09-25 16:00"
    ):
        extend_back(_walk(2, 20), Interval.H1, 744)
    with pytest.raises(NotEnoughHistory, match="needs 192"):
        extend_back(_walk(2, 100, Interval.M15), Interval.M15, 1368)


def _answers(
    own: Candles, bitcoin: Candles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choices: Sequence[str]
) -> list[Forecast | ReplicaError]:
    """Return what a replica of the shipped foundation answers from these candles."""
    foundation = shipped.find("simulated", Interval.H1)
    assert foundation is not None
    tags = foundation.card.tags | {TAG_SHIPPED: foundation.card.digest}
    version = ModelVersion("foundation_1h", 1, "run-1", created_ms=NOON_MS, tags=tags)
    loaded = LoadedModel(version, foundation.graph, ModelCache(1))
    monkeypatch.setattr(ModelLoader, "_fetch", lambda *_: loaded)
    monkeypatch.setattr("time.time_ns", lambda: (NOON_MS + 60_000) * 1_000_000)
    settings = Settings(market="simulated", cache_folder=str(tmp_path), database_url="postgresql://a:b@127.0.0.1:9/c")

    class Known:
        def __init__(self, candles: Candles) -> None:
            self.candles = candles

        def closed_by(self, _: int) -> Candles:
            return self.candles

    monkeypatch.setattr(updater, "shared_bitcoin", lambda *_: Known(bitcoin))

    async def ask() -> list[Forecast | ReplicaError]:
        replica = Forecaster(ETH, settings, ModelCache(1))
        market: LiveWindow = replica._updater.market
        monkeypatch.setattr(market, "_own", Known(own))
        await replica.reconfigure({"name": "foundation_1h", "version": 1, "run_id": "run-1"})
        try:
            return [await replica.forecast(choice) for choice in choices]
        finally:
            replica.close()

    return asyncio.run(ask())


@pytest.mark.parametrize("choice", ["champion", "naive", "ewma"])
@pytest.mark.parametrize(
    ("hours", "ended", "in_bitcoin_alone"), [(4, 1, True), (5, 48, False), (72, 3, False), (300, 80, False)]
)
def test_after_a_gap_there_are_forecasts_again(
    hours: int, ended: int, in_bitcoin_alone: bool, choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = _walk(1) if in_bitcoin_alone else _without(_walk(1), hours, ended)
    (answer,) = _answers(own, _without(_walk(3), hours, ended), tmp_path, monkeypatch, [choice])
    assert isinstance(answer, Forecast)
    assert answer.as_of_ms == NOON_MS
    assert answer.flags.bridged is not (choice == "naive" and hours == 300)  # which needs no more than the 80 candles


def test_without_a_gap_nothing_is_bridged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = _answers(_walk(1), _walk(3), tmp_path, monkeypatch, ["champion", "naive", "ewma"])
    assert [answer.flags.bridged for answer in answers] == [False] * 3


def test_a_very_long_gap_is_named_with_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gapped = [_without(_walk(seed), 300, 20) for seed in (1, 3)]
    champion, ewma = _answers(*gapped, tmp_path, monkeypatch, ["champion", "ewma"])
    text = "20 candles since the pair began or since its last gap, 2026-09-23 16:00 UTC: a forecast needs 48"
    for answer in (champion, ewma):
        assert f"{text}, which will be there at 2026-09-25 16:00 UTC" in answer.detail


def test_own_candles_of_a_caller_are_not_made_up() -> None:
    assert bridges.LONGEST_BRIDGE == 72
    window = Window(_walk(1, 100), _walk(3, 100), Interval.H1)
    assert not window.is_bridged(100)
    assert window.at_least(744).is_bridged(744)
