"""Measures the tests: a pytest plugin that records durations, runs the longest files first, and keeps budgets.

Every run writes `tests/artifacts/durations.json`: the seconds of each test by phase, of each fixture and of each file,
and the mean load of the machine. `make test-durations` copies the files' seconds to `tests/durations.json`, from which
the next runs take their order and, with `--budgets`, their budgets.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

from tests.support.processes import PROJECT_ROOT

RECORDED = PROJECT_ROOT / "tests" / "durations.json"
MEASURED = PROJECT_ROOT / "tests" / "artifacts" / "durations.json"
# The files below each of these folders share servers, or may not run beside each other: one process runs them.
ONE_PROCESS = (
    "tests/dags/",
    "tests/serving/",
    *(f"tests/stacks/{folder}/" for folder in ("chain", "faults", "hosts", "pictures", "ray")),
)
_SLOWEST = 20
# A file may take this many times its recorded seconds, and this much more, on a machine that is as calm as then.
_FACTOR, _SLACK_S = 3.0, 30.0
_CALM = 1.5  # times the load that was recorded
_LOAD_EVERY_S = 10.0
_UNKNOWN_S = 30.0  # a new file starts early
_FIXTURES = pytest.StashKey[list[tuple[str, float]]]()


@dataclass(frozen=True)
class Budget:
    """The recorded seconds of a file, and the machine's mean load in that run."""

    seconds: float
    load: float

    def is_passed_by(self, seconds: float, load: float) -> bool:
        """True when a file is slow although the machine is calm."""
        return load <= self.load * _CALM and seconds > self.seconds * _FACTOR + _SLACK_S


def recorded_budgets(file: Path = RECORDED) -> dict[str, Budget]:
    if not file.exists():
        return {}
    return {name: Budget(*values) for name, values in json.loads(file.read_text()).items()}


def scope_of(nodeid: str) -> str:
    """Return what one process runs as a whole: a file, or one of the folders in ONE_PROCESS."""
    return next((folder for folder in ONE_PROCESS if nodeid.startswith(folder)), nodeid.partition("::")[0])


def longest_first(nodeids: Iterable[str], budgets: Mapping[str, Budget]) -> dict[str, float]:
    """Return a sort key for each scope: the process that is free takes the longest one that is left."""
    seconds: dict[str, float] = defaultdict(float)
    for file in {nodeid.partition("::")[0] for nodeid in nodeids}:
        seconds[scope_of(file)] += budgets[file].seconds if file in budgets else _UNKNOWN_S
    return {scope: -total for scope, total in seconds.items()}


@dataclass
class Durations:
    """What a run took. `tests`: seconds of each phase by node id."""

    tests: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    fixtures: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def files(self) -> dict[str, float]:
        found: dict[str, float] = defaultdict(float)
        for nodeid, phases in self.tests.items():
            found[nodeid.partition("::")[0]] += sum(phases.values())
        return found

    def folders(self) -> dict[str, float]:
        found: dict[str, float] = defaultdict(float)
        for file, seconds in self.files().items():
            parts = Path(file).parts
            found["/".join(parts[: 3 if parts[1] == "stacks" else 2])] += seconds
        return found

    def slowest(self) -> list[tuple[str, float]]:
        totals = [(nodeid, sum(phases.values())) for nodeid, phases in self.tests.items()]
        return sorted(totals, key=lambda item: -item[1])[:_SLOWEST]

    def over_budget(self, budgets: Mapping[str, Budget], load: float) -> list[str]:
        return [
            f"{file} took {seconds:.0f} s; recorded: {budgets[file].seconds:.0f} s"
            for file, seconds in sorted(self.files().items())
            if file in budgets and budgets[file].is_passed_by(seconds, load)
        ]

    def write(self, file: Path, load: float, elapsed_s: float) -> None:
        def rounded(values: Mapping[str, float]) -> dict[str, float]:
            return {name: round(value, 2) for name, value in sorted(values.items(), key=lambda item: -item[1])}

        file.parent.mkdir(exist_ok=True)
        document = {
            "elapsed_s": round(elapsed_s, 1),
            "load": round(load, 1),
            "folders": rounded(self.folders()),
            "files": rounded(self.files()),
            "fixtures": rounded(self.fixtures),
            "tests": {nodeid: rounded(phases) for nodeid, phases in self.tests.items()},
        }
        file.write_text(json.dumps(document, indent=1) + "\n")


class _Load:
    """Samples the machine's load in a thread, from now until `mean` is asked for."""

    def __init__(self) -> None:
        self._samples: list[float] = []
        self._stopped = Event()
        self._thread = Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        while not self._stopped.wait(_LOAD_EVERY_S):
            self._samples.append(os.getloadavg()[0])

    def mean(self) -> float:
        self._stopped.set()
        self._thread.join()
        return sum(self._samples) / len(self._samples) if self._samples else os.getloadavg()[0]


class _Recorder:
    """Runs where the results of all processes arrive."""

    def __init__(self, config: pytest.Config) -> None:
        self._durations = Durations()
        self._load = _Load()
        self._mean_load = 0.0
        self._began = time.monotonic()
        self._over_budget: list[str] = []
        self._keeps_budgets = config.getoption("--budgets")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._durations.tests[report.nodeid][report.when or ""] = report.duration
        if report.when == "setup":
            for name, value in report.user_properties:
                if name == "fixture":
                    fixture, seconds = str(value).rsplit(" ", 1)
                    self._durations.fixtures[fixture] += float(seconds)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not self._durations.tests:
            return
        self._mean_load = self._load.mean()
        self._durations.write(MEASURED, self._mean_load, time.monotonic() - self._began)
        if self._keeps_budgets:
            self._over_budget = self._durations.over_budget(recorded_budgets(), self._mean_load)
            if self._over_budget and session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._keeps_budgets and self._durations.tests:
            terminalreporter.section(f"slowest {_SLOWEST} tests, set-up included")
            for nodeid, seconds in self._durations.slowest():
                terminalreporter.write_line(f"{seconds:6.1f} s  {nodeid}")
            folders = sorted(self._durations.folders().items(), key=lambda item: -item[1])
            total = sum(seconds for _, seconds in folders)
            terminalreporter.write_line(
                f"process-minutes: {total / 60:.1f}; "
                + ", ".join(f"{folder.removeprefix('tests/')} {seconds / 60:.1f}" for folder, seconds in folders)
                + f"; mean load {self._mean_load:.1f}; all durations: {MEASURED.relative_to(PROJECT_ROOT)}"
            )
        if self._over_budget:
            terminalreporter.section("files over their budget", red=True)
            for line in self._over_budget:
                terminalreporter.write_line(line)
            terminalreporter.write_line("Make them faster. `make test-durations` records the new times.")


class LongestFirst(LoadFileScheduling):
    """Gives each process one scope at a time."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--budgets", action="store_true", help="print the slowest tests, and fail when a file is too slow")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Recorder(config))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    keys = longest_first([item.nodeid for item in items], recorded_budgets())
    items.sort(key=lambda item: (keys[scope_of(item.nodeid)], scope_of(item.nodeid)))


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadFileScheduling:
    return LongestFirst(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    began = time.perf_counter()
    try:
        return (yield)
    finally:
        name = f"{fixturedef.baseid or 'tests'}::{fixturedef.argname}"
        request.config.stash.setdefault(_FIXTURES, []).append((name, time.perf_counter() - began))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    item.config.stash[_FIXTURES] = []
    try:
        return (yield)
    finally:  # the properties of a report reach the process that writes the durations
        item.user_properties += [
            ("fixture", f"{name} {seconds:.4f}") for name, seconds in item.config.stash[_FIXTURES] if seconds > 0.01
        ]


def record() -> None:
    """Copy the files' seconds of the last run to `tests/durations.json`; files that it did not run keep theirs."""
    measured = json.loads(MEASURED.read_text())
    budgets = {name: [each.seconds, each.load] for name, each in recorded_budgets().items()}
    budgets |= {file: [round(seconds, 1), measured["load"]] for file, seconds in measured["files"].items()}
    kept = {file: values for file, values in sorted(budgets.items()) if (PROJECT_ROOT / file).exists()}
    lines = ",\n".join(f" {json.dumps(file)}: {json.dumps(values)}" for file, values in kept.items())
    RECORDED.write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    record()
