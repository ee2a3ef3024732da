"""What is told about a run's failures, and what was told before."""

from __future__ import annotations

from typing import Any

from dags.support.alerts import REMIND_AFTER_S, what_is_new

TASKS = {"fetch", "train", "refresh_serving"}
PAIRS = {"btc_usdt", "chz_usdt"}


def _failed(pair: str | None, task: str = "fetch", refused: bool = False) -> dict[str, Any]:
    return {
        "pair": pair, "task": task, "reason": "Broken: it is", "refused": refused, "tries": 3, "link": ""
    }  # fmt: skip


def test_a_new_failure_is_told() -> None:
    news = what_is_new([_failed("chz_usdt")], PAIRS, TASKS, {}, now=10_000_000.0)

    assert news.to_tell
    assert news.failed == ["chz_usdt"]
    assert news.memory == {"chz_usdt": 10_000_000.0}


def test_the_same_failure_an_hour_later_is_not_told_again() -> None:
    first = what_is_new([_failed("chz_usdt")], PAIRS, TASKS, {}, now=10_000_000.0)
    second = what_is_new([_failed("chz_usdt")], PAIRS, TASKS, first.memory, now=10_003_600.0)

    assert not second.to_tell
    assert second.memory == first.memory


def test_a_lasting_failure_is_told_again_after_some_hours() -> None:
    later = 10_000_000.0 + REMIND_AFTER_S
    news = what_is_new([_failed("chz_usdt")], PAIRS, TASKS, {"chz_usdt": 10_000_000.0}, now=later)

    assert news.to_tell
    assert news.memory == {"chz_usdt": later}


def test_a_recovery_is_told_once() -> None:
    news = what_is_new([], PAIRS, TASKS, {"chz_usdt": 1.0, "train": 1.0}, now=2.0)

    assert news.to_tell
    assert news.recovered == ["chz_usdt", "train"]
    assert not what_is_new([], PAIRS, TASKS, news.memory, now=3.0).to_tell


def test_a_run_for_other_pairs_says_nothing_of_this_one() -> None:
    news = what_is_new([], {"btc_usdt"}, TASKS, {"chz_usdt": 1.0}, now=2.0)

    assert not news.to_tell
    assert news.memory == {"chz_usdt": 1.0}


def test_a_task_without_a_pair_is_told_by_its_name() -> None:
    assert what_is_new([_failed(None, "train")], PAIRS, TASKS, {}, now=10_000_000.0).failed == ["train"]


def test_a_refused_run_is_told_each_time_and_never_works_again() -> None:
    refusal = [_failed(None, "plan_run", refused=True)]
    first = what_is_new(refusal, PAIRS, {"plan_run"}, {}, now=10_000_000.0)
    second = what_is_new(refusal, PAIRS, {"plan_run"}, first.memory, now=10_000_001.0)

    assert first.to_tell
    assert second.to_tell
    assert not what_is_new([], PAIRS, {"plan_run"}, second.memory, now=10_000_002.0).to_tell
