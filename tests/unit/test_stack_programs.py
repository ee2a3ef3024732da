"""The doctor's look at the programs of an embedded stack: what is down, and what ends again and again."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from make_us_rich.embedded.programs import check_programs, ends, judge
from make_us_rich.embedded.stack_config import StackConfig
from make_us_rich.embedded.supervisor import ProgramState

NOW = datetime(2026, 11, 25, 14, 30, tzinfo=UTC).astimezone()


def state(name: str, state: str = "RUNNING") -> ProgramState:
    return ProgramState(name, state, 1, 60.0)


def test_a_program_that_ends_again_and_again_is_counted_from_the_log(tmp_path: Path) -> None:
    config = StackConfig("simulated", tmp_path)
    config.logs.mkdir()
    lines = []
    for minutes in (60, 9, 6, 3):
        at = f"{NOW - timedelta(minutes=minutes):%Y-%m-%d %H:%M:%S},123"
        lines += [
            f"{at} WARN exited: mlflow (terminated by SIGKILL; not expected)",
            f"{at} INFO spawned: 'mlflow' with pid 12",
            f"{at} INFO success: mlflow entered RUNNING state, process has stayed up for > than 2 seconds (startsecs)",
            f"{at} INFO stopped: dash (exit status 0)",
        ]
    (config.logs / "supervisord.log").write_text("\n".join(lines))

    assert ends(config, NOW) == {"mlflow": 3}
    assert ends(StackConfig("simulated", tmp_path / "without a log"), NOW) == {}


@pytest.mark.parametrize("down", ["FATAL", "BACKOFF", "EXITED"])
def test_a_program_that_is_down_is_named_with_the_way_out(down: str) -> None:
    found = judge([state("s3"), state("postgres", down)], Counter(postgres=4))

    assert (found.state, found.detail) == ("failed", f"postgres is {down}")
    assert "mkrich logs postgres" in found.way_out
    assert "mkrich up" in found.way_out


def test_a_restart_loop_is_a_finding_although_the_program_runs_just_now() -> None:
    found = judge([state("s3"), state("mlflow")], Counter(mlflow=3, s3=2))

    assert (found.state, found.detail) == ("failed", "mlflow ended 3 times within 10 minutes")
    assert found.way_out == "`mkrich logs mlflow` says why"


def test_a_program_that_was_stopped_on_purpose_is_no_problem() -> None:
    assert judge([state("s3"), state("dash", "STOPPED")], Counter()).state == "ok"


def test_a_stack_that_is_down_is_said_to_be(tmp_path: Path) -> None:
    found = check_programs(StackConfig("simulated", tmp_path / "state"))

    assert (found.state, found.way_out) == ("failed", "`mkrich up` starts it")
