"""When the operator gives up a Ray job that is still running."""

from __future__ import annotations

import time

import pytest

from dags.support.operator import RayJobTrigger
from make_us_rich.pipeline.ray_jobs import RayJob

HOUR_S = 3600.0


@pytest.mark.parametrize(
    ("deadline_s", "silent_s", "reason"),
    [
        (HOUR_S, HOUR_S, None),
        (-1.0, 0.0, "it ran longer than its run timeout"),
        (None, 0.5 * HOUR_S, None),
        (None, HOUR_S, "its log has had no new line for 60 min"),
    ],
    ids=["within its limit", "beyond its limit", "without a limit, at work", "without a limit, hanging"],
)
def test_a_job_without_a_limit_is_given_up_only_when_its_log_stands_still(
    deadline_s: float | None, silent_s: float, reason: str | None
) -> None:
    now = time.time()
    deadline = None if deadline_s is None else now + deadline_s
    watching = RayJobTrigger("job", "ray_default", 0.2, now + HOUR_S, deadline, unreachable_s=60)

    outcome = watching._outcome(RayJob("job", "RUNNING", ""), silent_s=silent_s)

    assert outcome == (None if reason is None else ("TOO SLOW", reason))
    assert watching.serialize()[1]["run_deadline"] == deadline
