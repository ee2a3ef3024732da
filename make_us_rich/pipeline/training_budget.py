"""Chooses the pairs that a run of train_pairs trains within its compute budget, and estimates when each pair is due.

A run has MUR_TRAINING_MINUTES from its start to the update of serving. It trains pairs in the order of `by_need`. How
many fit is estimated from the seconds per pair of earlier runs, which include the start of a run. Ray jobs begin no
pair after four fifths of the budget; the rest is for promotion. Runs whose candles close at the same time share the
budget.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Literal

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import Settings
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database import scores, trainings
from make_us_rich.database.pool import Database
from make_us_rich.database.trainings import LastTraining

TRAINING_SHARE = 0.8
"""Share of the budget after which no pair is begun. Promotion took 18 % of a run of 100 pairs."""

_DRIFT_FACTOR = 4
_SECONDS_EACH = 3.0  # on two cores, until it is measured
_LEAST_SECONDS_EACH = 0.1

Reason = Literal["new", "drift", "age"]
"""Why a pair is due: it was never trained, its forecasts drift, or its last training is old."""
_WORDS: Mapping[Reason, str] = {
    "new": "as a new pair",
    "drift": "early, because its forecasts drift",
    "age": "by its age",
}


@dataclass(frozen=True)
class DueTraining:
    """When a pair was last trained and is due next.

    trained_ms: as_of of the last successful training, None before the first. failed_ms: as_of of the newest try, if it
    failed; failure: why. due_ms: as_of of the run that is expected to train the pair.
    """

    pair: Pair
    interval: Interval
    trained_ms: int | None
    failed_ms: int | None
    failure: str | None
    due_ms: int
    reason: Reason

    @property
    def why(self) -> str:
        """The reason in words, to follow a time in a sentence."""
        return _WORDS[self.reason]


@dataclass(frozen=True)
class TrainingNeeds:
    """The last trainings and the drifting pairs of one interval, which decide on the order of its pairs."""

    trained: Mapping[str, LastTraining]
    drifting: Collection[str]

    @classmethod
    def read(cls, database: Database, settings: Settings, interval: Interval, now_ms: int) -> TrainingNeeds:
        """Read the last training and the newest score of every pair."""
        found = scores.latest(database, market=settings.market, interval=interval, now_ms=now_ms)
        return cls(
            trainings.latest(database, market=settings.market, interval=interval),
            {pair for pair, score in found.items() if score.drifted},
        )

    def reason(self, pair: Pair) -> Reason:
        if pair not in self.trained:
            return "new"
        return "drift" if pair in self.drifting else "age"

    def by_need(self, pairs: Collection[Pair], as_of_ms: int) -> list[Pair]:
        """Sort the pairs: first those that were never trained, then by the age of the last training, oldest first.

        The age of a pair whose forecasts drift counts four times. The others cannot starve, because their age grows
        with each run. A failed training counts as well, so that a pair that always fails does not displace others.
        """

        def need(pair: Pair) -> tuple[bool, int, str]:
            last = self.trained.get(pair)
            if last is None:
                return False, 0, pair
            age_ms = max(0, as_of_ms - last.tried_as_of_ms)
            return True, -age_ms * (_DRIFT_FACTOR if pair in self.drifting else 1), pair

        return sorted(pairs, key=need)

    def pairs_per_run(self, pairs: Collection[Pair], budget_s: float) -> int:
        """Estimate how many of these pairs fit into a run, at least one, by the median time of a pair so far."""
        last = [self.trained[pair] for pair in pairs if pair in self.trained]
        measured = [item.run_seconds for item in last if item.run_seconds is not None]
        seconds_each = max(median(measured), _LEAST_SECONDS_EACH) if measured else _SECONDS_EACH
        return max(1, int(TRAINING_SHARE * budget_s / seconds_each))


def budget_s(settings: Settings, interval: Interval, as_of_ms: int) -> float:
    """Return the compute budget in seconds of the run as of this time: at most two thirds of its interval."""
    together = sum(as_of_ms % each.ms == 0 for each in settings.intervals)
    return min(settings.training_minutes * 60, interval.ms / 1500) / max(1, together)


def due_trainings(database: Database, settings: Settings, now_ms: int) -> list[DueTraining]:
    """Estimate when each active pair is due, sorted by interval and due time."""
    active = [item.pair for item in pairs_table.active(database)]
    return [
        due for interval in settings.intervals for due in _due_of_interval(database, settings, interval, active, now_ms)
    ]


def _due_of_interval(
    database: Database, settings: Settings, interval: Interval, pairs: Collection[Pair], now_ms: int
) -> list[DueTraining]:
    needs = TrainingNeeds.read(database, settings, interval, now_ms)
    next_ms = interval.last_close_ms(now_ms) + interval.ms
    per_run = needs.pairs_per_run(pairs, budget_s(settings, interval, next_ms))
    return [
        DueTraining(
            pair,
            interval,
            needs.trained[pair].trained_as_of_ms if pair in needs.trained else None,
            needs.trained[pair].failed_as_of_ms if pair in needs.trained else None,
            needs.trained[pair].failure if pair in needs.trained else None,
            next_ms + place // per_run * interval.ms,
            needs.reason(pair),
        )
        for place, pair in enumerate(needs.by_need(pairs, next_ms))
    ]
