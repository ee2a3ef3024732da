"""Which failures and recoveries of a run are posted, given what was posted before."""

from __future__ import annotations

import re
import time
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from dags import watch_service
from dags.support.alerts import REMIND_AFTER_S, Failure, FailureUpdate, failure_update, failures_alert
from make_us_rich.core.settings import Settings
from make_us_rich.operations.alerts import _MAX_TEXT_CHARS, _clean

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


@pytest.mark.parametrize(
    ("minutes_ago", "run_type", "begins"),
    [(5, "scheduled", False), (11, "scheduled", True), (1e6, "scheduled", True), (1e6, "manual", False)],
)
def test_the_first_round_of_a_watch_is_skipped_because_a_service_or_a_pair_may_still_start(
    minutes_ago: float, run_type: str, begins: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the gateway answers: then the pairs behind it would be reported."""
    dag, run = SimpleNamespace(params={}), SimpleNamespace(conf={}, run_type=run_type)
    monkeypatch.setattr(watch_service, "get_current_context", lambda: {"dag": dag, "dag_run": run})
    monkeypatch.setattr(watch_service.Variable, "get", lambda *_, **__: time.time() - 60 * minutes_ago)
    monkeypatch.setattr(watch_service.Variable, "set", lambda *_, **__: None)
    monkeypatch.setattr(watch_service, "check_api", lambda _: None)

    with pytest.raises(AirflowSkipException) if begins else nullcontext():
        watch_service.alive.function()


HOSTILE = (
    "[click](https://evil.example)",
    "![x](https://evil.example/p.png)",
    "@everyone <@1> https://evil.example",
    "```\n**a**\n# Title",
    "` ](https://evil.example) `",
    "<script>alert(1)</script>",
    "x" * 2000 + "[a](https://evil.example)",
)


@pytest.mark.parametrize("count", [1, 10])
def test_foreign_text_is_shown_as_it_is(count: int) -> None:
    """Markdown leaves a code span as it is; what is outside of it here is ours."""
    failures = [
        Failure(pair="chz_usdt", task="fetch", reason=f"MarketUnavailable: {HOSTILE[each % len(HOSTILE)]}", link="")
        for each in range(count * len(HOSTILE))
    ]
    update = FailureUpdate(["chz_usdt"], [], {}, worth_posting=True)

    alert = failures_alert("train_pairs", "run", update, failures, Settings())

    for line in _clean(alert.text, Settings(), _MAX_TEXT_CHARS).splitlines():
        outside = re.sub(r"`[^`]+`", "", line)
        assert outside in ("**chz_usdt** fetch, 1 try: ", "…") or re.fullmatch("… and [0-9]+ more", outside), line
