"""What the watchdog reports, round by round, and when it sends its heartbeat."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from make_us_rich.core.settings import Settings
from make_us_rich.operations import watchdog
from make_us_rich.operations.watchdog import REMIND_AFTER_S, STARTING_S, Looker, Reporter, Round, Watchdog
from make_us_rich.pipeline.airflow import DagState

WELL = dict.fromkeys(("postgres", "s3", "mlflow", "ray", "airflow", "disk", "api"))
BEGAN_S = 1_000_000.0


def rounds(*found: dict[str, str], dags: bool = True, every_s: float = 60.0) -> Iterator[tuple[str, str] | None]:
    """Yield title and text of the message of each round, after a first one in which everything was well."""
    reporter = Reporter(began_s=BEGAN_S)
    assert reporter.news(Round(BEGAN_S, WELL)) is None
    for number, problems in enumerate(found, 1):
        at_s = BEGAN_S + number * every_s
        idle = {"watch_service": at_s} if dags else {}
        alert = reporter.news(Round(at_s, WELL | problems, idle_since_s=idle))
        yield (alert.title, alert.text) if alert else None


def test_a_problem_is_one_message_and_its_end_another() -> None:
    down = {"postgres": "connection refused"}
    told = [title for message in rounds(down, down, down, down, {}, {}) if message for title in message[:1]]
    assert told == ["watchdog: postgres failed", "watchdog: postgres works again"]


def test_a_moment_is_no_problem() -> None:
    assert list(rounds({"s3": "timeout"}, {}, {"s3": "timeout"}, {})) == [None] * 4


def test_what_fails_together_is_one_message() -> None:
    down = {"s3": "refused", "disk": "full"}
    (told,) = [message for message in rounds(down, down, down) if message]
    assert told[0] == "watchdog: disk, s3 failed"
    assert "**s3**: `refused`" in told[1]


def test_one_cause_is_one_message() -> None:
    """Airflow and MLflow fail later than the database that they need, and start later when it is back."""
    cause = {"postgres": "refused"}
    both = cause | {"airflow": "not healthy", "mlflow": "500"}
    found = [cause, both, both, both, {"airflow": "not healthy"}, {}, {}]
    told = [message[0] for message in rounds(*found) if message]
    assert told == ["watchdog: postgres failed", "watchdog: postgres works again"]


def test_a_lasting_problem_is_repeated_after_hours() -> None:
    down = {"mlflow": "refused"}
    told = list(rounds(*[down] * 4, every_s=REMIND_AFTER_S / 2))
    assert [message is not None for message in told] == [False, True, False, True]


@pytest.mark.parametrize(("dags", "told"), [(True, False), (False, True)])
def test_airflows_own_watch_reports_the_service_while_it_runs(dags: bool, told: bool) -> None:
    down = {"api": "no answer", "ray": "no answer"}
    assert any(rounds(down, down, down, dags=dags)) is told


def test_what_may_be_starting_is_reported_later() -> None:
    reporter = Reporter(began_s=BEGAN_S)
    down = WELL | {"airflow": "refused"}
    early = [reporter.news(Round(BEGAN_S + 60 * number, down)) for number in range(5)]
    assert early == [None] * 5
    assert reporter.news(Round(BEGAN_S + STARTING_S, down)) is not None


def test_a_dag_whose_runs_stay_away_is_reported_and_a_paused_one_is_not() -> None:
    looker, hour_s = Looker(Settings()), 3600.0

    def problems(now_s: float, *dags: DagState) -> set[str]:
        return set(looker.round(WELL, dags, now_s).problems)

    old = DagState("train_pairs", paused=False, ended_s=BEGAN_S - 48 * hour_s)
    paused = DagState("housekeeping", paused=True, ended_s=None)
    never = DagState("publish_log", paused=False, ended_s=None)
    assert problems(BEGAN_S, old, paused, never) == set(), "a watch that begins gives them time"
    assert problems(BEGAN_S + 1.9 * hour_s, old, paused, never) == set()
    assert problems(BEGAN_S + 2.1 * hour_s, old, paused, never) == {"train_pairs"}
    assert problems(BEGAN_S + 27 * hour_s, old, paused, never) == {"train_pairs", "publish_log"}
    new = DagState("train_pairs", paused=False, ended_s=BEGAN_S + 26.5 * hour_s)
    assert problems(BEGAN_S + 27 * hour_s, new, paused, never) == {"publish_log"}


def test_prometheus_gets_what_the_rules_ask_for() -> None:
    dags = [DagState("train_pairs", False, BEGAN_S), DagState("housekeeping", True, None)]
    text = Looker(Settings()).round(WELL | {"s3": "refused"}, dags, BEGAN_S).metrics()
    assert 'mur_component_up{component="s3"} 0' in text
    assert 'mur_component_up{component="postgres"} 1' in text
    assert 'mur_dag_paused{dag="housekeeping"} 1' in text
    assert 'mur_dag_paused{dag="train_pairs"} 0' in text
    assert 'mur_dag_idle_since_seconds{dag="train_pairs"} 1000000' in text
    assert 'mur_dag_late_after_seconds{dag="train_pairs"} 7200' in text
    assert "mur_watchdog_round_seconds 1000000" in text


@pytest.mark.parametrize(("problem", "beats"), [(None, 1), ("refused", 0)])
def test_only_a_healthy_round_sends_the_heartbeat(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, problem: str | None, beats: int
) -> None:
    asked: list[str] = []

    def get(url: str, **_: object) -> httpx.Response:
        asked.append(url)
        raise httpx.ConnectError("nobody listens")  # which ends no round

    monkeypatch.setattr(watchdog.httpx, "get", get)
    monkeypatch.setattr(Looker, "look", lambda _: Round(BEGAN_S, WELL | {"ray": problem}))
    Watchdog(Settings(heartbeat_url=SecretStr("https://beat.example/secret-of-mine"))).round()
    Watchdog(Settings()).round()
    assert asked == ["https://beat.example/secret-of-mine"] * beats
    assert "secret-of-mine" not in caplog.text


def test_the_metrics_are_served_and_nothing_else() -> None:
    watched = Watchdog(Settings())
    watched.metrics = "mur_watchdog_round_seconds 1\n"
    server = watchdog.serve_metrics(watched, "127.0.0.1", 0)
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        assert httpx.get(f"{url}/metrics").text == watched.metrics
        assert httpx.get(f"{url}/{Path('etc/passwd')}").status_code == 404
    finally:
        server.shutdown()
        server.server_close()
