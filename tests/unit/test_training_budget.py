"""Which pairs a run trains within its compute budget: the order, and that each pair's turn comes."""

from __future__ import annotations

import random

import pytest

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import Settings
from make_us_rich.database.trainings import LastTraining
from make_us_rich.pipeline.training_budget import TrainingNeeds, budget_s

NOON_MS = 1_700_049_600_000  # 2023-11-15 12:00 UTC
BTC, ETH, CHZ, SOL = (Pair(base, "usdt") for base in ("btc", "eth", "chz", "sol"))


def _tried(hours_ago: int, run_seconds: float | None = None) -> LastTraining:
    as_of_ms = NOON_MS - hours_ago * HOUR_MS
    return LastTraining(as_of_ms, as_of_ms, run_seconds)


def test_new_pairs_come_first_then_the_oldest_and_drift_counts_four_times() -> None:
    needs = TrainingNeeds({BTC: _tried(7), ETH: _tried(2), CHZ: _tried(9)}, drifting={ETH})

    assert needs.by_need([BTC, ETH, CHZ, SOL], NOON_MS) == [SOL, CHZ, ETH, BTC]
    assert [needs.reason(pair) for pair in (SOL, ETH, BTC)] == ["new", "drift", "age"]


@pytest.mark.parametrize("seed", range(5))
def test_no_pair_starves_whatever_drifts_and_fails(seed: int) -> None:
    """A fifth of the pairs drifts for ever, another fifth fails at each training, new pairs arrive every hour."""
    chance = random.Random(seed)
    pairs = [Pair(f"coin{number}", "usdt") for number in range(60)]
    drifting, a_run, last, waits = set(pairs[:12]), 6, dict.fromkeys(pairs, 0), dict.fromkeys(pairs, 0)
    trained: dict[str, LastTraining] = {}
    for run in range(300):
        as_of_ms = NOON_MS + run * HOUR_MS
        if run < 200 and chance.random() < 0.2:
            pairs.append(Pair(f"new{run}", "usdt"))
            last[pairs[-1]] = run
            waits[pairs[-1]] = 0
        for pair in TrainingNeeds(trained, drifting).by_need(pairs, as_of_ms)[:a_run]:
            failed = pair in pairs[12:24]
            trained[pair] = LastTraining(as_of_ms, None if failed else as_of_ms, 3.0)
            waits[pair], last[pair] = max(waits[pair], run - last[pair]), run
        waits = {pair: max(waited, run - last[pair]) for pair, waited in waits.items()}

    # Drifting pairs are trained four times as often, so the others wait as if there were three more of each.
    turns = (len(pairs) + 3 * len(drifting)) / a_run
    assert max(waits.values()) <= turns + 1
    assert max(waits[pair] for pair in drifting) <= turns / 2


def test_as_many_pairs_are_taken_as_fit_by_what_earlier_runs_took() -> None:
    pairs = [Pair(f"coin{number}", "usdt") for number in range(200)]
    half_an_hour = 1800.0

    unmeasured = TrainingNeeds({}, set()).pairs_per_run(pairs, half_an_hour)
    slow = TrainingNeeds(dict.fromkeys(pairs, _tried(1, 30.0)), set()).pairs_per_run(pairs, half_an_hour)
    one_outage = TrainingNeeds(dict.fromkeys(pairs, _tried(1, 30.0)) | {pairs[0]: _tried(1, 900.0)}, set())

    assert (unmeasured, slow) == (0.8 * 1800 / 3, 0.8 * 1800 / 30)
    assert one_outage.pairs_per_run(pairs, half_an_hour) == slow
    assert TrainingNeeds({}, set()).pairs_per_run(pairs, 60) >= 1
    assert TrainingNeeds({pairs[0]: _tried(1, 9000.0)}, set()).pairs_per_run(pairs, half_an_hour) == 1


def test_runs_that_begin_together_share_the_budget_and_none_takes_more_than_two_thirds_of_its_interval() -> None:
    several = Settings(intervals=("15m", "1h", "4h"), training_minutes=30)
    minutes = {
        (interval, hours): budget_s(several, interval, NOON_MS + int(hours * HOUR_MS)) / 60
        for interval in several.intervals
        for hours in (0, 0.25, 1)
    }

    assert minutes[Interval.H1, 0] == minutes[Interval.H4, 0] == 10
    assert minutes[Interval.H1, 1] == 15
    assert minutes[Interval.M15, 0] == pytest.approx(10 / 3)
    assert minutes[Interval.M15, 0.25] == 10
    assert budget_s(Settings(training_minutes=30), Interval.H1, NOON_MS) == 1800
