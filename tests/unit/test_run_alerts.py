"""Which failures and recoveries of a run are posted, given what was posted before."""

from __future__ import annotations

from dags.support.alerts import REMIND_AFTER_S, Failure, failure_update

TASKS = {"fetch", "train", "refresh_serving"}
PAIRS = {"btc_usdt", "chz_usdt"}


def _failure(pair: str | None, task: str = "fetch", refused: bool = False) -> Failure:
    return Failure(pair=pair, task=task, reason="Broken: it is", refused=refused, tries=3)


def test_a_new_failure_is_posted() -> None:
    update = failure_update([_failure("chz_usdt")], PAIRS, TASKS, {}, now=10_000_000.0)

    assert update.worth_posting
    assert update.failed == ["chz_usdt"]
    assert update.last_posted == {"chz_usdt": 10_000_000.0}


def test_the_same_failure_an_hour_later_is_not_posted_again() -> None:
    first = failure_update([_failure("chz_usdt")], PAIRS, TASKS, {}, now=10_000_000.0)
    second = failure_update([_failure("chz_usdt")], PAIRS, TASKS, first.last_posted, now=10_003_600.0)

    assert not second.worth_posting
    assert second.last_posted == first.last_posted


def test_a_lasting_failure_is_posted_again_after_some_hours() -> None:
    later = 10_000_000.0 + REMIND_AFTER_S
    update = failure_update([_failure("chz_usdt")], PAIRS, TASKS, {"chz_usdt": 10_000_000.0}, now=later)

    assert update.worth_posting
    assert update.last_posted == {"chz_usdt": later}


def test_a_recovery_is_posted_once() -> None:
    update = failure_update([], PAIRS, TASKS, {"chz_usdt": 1.0, "train": 1.0}, now=2.0)

    assert update.worth_posting
    assert update.recovered == ["chz_usdt", "train"]
    assert not failure_update([], PAIRS, TASKS, update.last_posted, now=3.0).worth_posting


def test_a_run_for_other_pairs_changes_nothing_for_this_one() -> None:
    update = failure_update([], {"btc_usdt"}, TASKS, {"chz_usdt": 1.0}, now=2.0)

    assert not update.worth_posting
    assert update.last_posted == {"chz_usdt": 1.0}


def test_a_task_without_a_pair_is_posted_by_its_name() -> None:
    assert failure_update([_failure(None, "train")], PAIRS, TASKS, {}, now=10_000_000.0).failed == ["train"]


def test_a_refused_run_is_posted_each_time_and_never_recovers() -> None:
    refusal = [_failure(None, "plan_run", refused=True)]
    first = failure_update(refusal, PAIRS, {"plan_run"}, {}, now=10_000_000.0)
    second = failure_update(refusal, PAIRS, {"plan_run"}, first.last_posted, now=10_000_001.0)

    assert first.worth_posting
    assert second.worth_posting
    assert not failure_update([], PAIRS, {"plan_run"}, second.last_posted, now=10_000_002.0).worth_posting
