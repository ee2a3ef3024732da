"""Alerts against a real HTTP server that answers as Discord's webhooks do."""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from dags.support import alerts
from dags.support.alerts import Failure, failure_update, failures_alert
from make_us_rich.core.settings import Settings
from make_us_rich.database import alerts as alerts_table
from make_us_rich.database.pool import Database
from make_us_rich.operations import alerts as operations_alerts
from make_us_rich.operations.alerts import Alert, post, post_soon
from tests.support.processes import free_port, running
from tests.support.servers import discord_server

FAILED = Alert(
    title="fetch failed for chz_usdt",
    text="PairNotTraded: CHZUSDT is halted",
    fields={"DAG": "train_pairs", "Pair": "chz_usdt"},
    link="http://127.0.0.1:28080/dags/train_pairs",
)


class Sink:
    def __init__(self, url: str, database_url: str) -> None:
        self.url = url
        self.database = Database(database_url)
        self.settings = Settings(
            discord_webhook_url=SecretStr(f"{url}/api/webhooks/1/token-of-the-webhook"),
            s3_secret_key=SecretStr("swordfish-42"),
            database_url=SecretStr(database_url),
        )

    def messages(self) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = httpx.get(f"{self.url}/_control/messages").json()
        return answer

    def fail_next(self, *failures: dict[str, Any]) -> None:
        httpx.put(f"{self.url}/_control/answer", json=list(failures)).raise_for_status()


@pytest.fixture
def sink(database_url: str) -> Iterator[Sink]:
    with discord_server() as url:
        yield Sink(url, database_url)


def test_the_stand_in_prints_what_would_be_posted(tmp_path: Path, database_url: str) -> None:
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "infra.discord", "--port", str(port)]
    with running(command, f"{url}/healthz", tmp_path / "discord.log"):
        assert post(FAILED, Sink(url, database_url).settings)

    assert f"would post to Discord: {FAILED.title}\n{FAILED.text}" in (tmp_path / "discord.log").read_text()


def test_an_alert_says_what_failed_and_where_to_look(sink: Sink) -> None:
    assert post(FAILED, sink.settings)

    (message,) = sink.messages()
    (embed,) = message["embeds"]
    assert embed["title"] == FAILED.title
    assert embed["description"] == FAILED.text
    assert embed["url"] == FAILED.link
    assert {field["name"]: field["value"] for field in embed["fields"]} == dict(FAILED.fields)


def test_no_secret_of_the_settings_is_posted(sink: Sink) -> None:
    leaking = Alert("upload failed", "could not sign with swordfish-42", {"Key": "swordfish-42"})

    post(leaking, sink.settings)

    assert "swordfish-42" not in str(sink.messages())
    assert "could not sign with ***" in str(sink.messages())


def test_a_rate_limit_is_waited_for(sink: Sink) -> None:
    sink.fail_next({"status": 429, "retry_after_s": 0.3})
    began = time.monotonic()

    assert post(FAILED, sink.settings)

    assert time.monotonic() - began >= 0.3
    assert len(sink.messages()) == 1


def test_a_fault_of_discord_is_asked_again_once(sink: Sink) -> None:
    sink.fail_next({"status": 503})

    assert post(FAILED, sink.settings)

    assert len(sink.messages()) == 1


@pytest.mark.parametrize("told", ["nan", "-1", "soon"])
def test_a_rate_limit_of_unknown_length_is_waited_for(sink: Sink, told: str) -> None:
    sink.fail_next({"status": 429, "retry_after_s": told})

    assert post(FAILED, sink.settings)


def test_a_link_that_discord_refuses_does_not_lose_the_alert(sink: Sink) -> None:
    """Discord refuses a link to a host without a dot, as in Compose, with 400."""
    sink.fail_next({"status": 400})

    assert post(FAILED, sink.settings)

    (message,) = sink.messages()
    assert message["embeds"][0].get("url") is None
    assert FAILED.link in message["embeds"][0]["description"]


def test_an_empty_text_or_field_is_not_sent_empty(sink: Sink) -> None:
    """Discord refuses those too."""
    assert post(Alert("watch_service failed", "", {"DAG": " "}), sink.settings)

    (embed,) = sink.messages()[0]["embeds"]
    assert embed["description"].strip()
    assert embed["fields"][0]["value"].strip()


def test_what_came_of_each_alert_is_recorded_without_secrets(sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
    nowhere = SecretStr(f"http://127.0.0.1:{free_port()}/api/webhooks/1/token-of-the-webhook")
    leaking = Alert("upload failed", "could not sign with swordfish-42")

    assert post(leaking, sink.settings)
    sink.fail_next({"status": 500}, {"status": 500})
    assert post(FAILED, sink.settings) is False
    assert post(FAILED, sink.settings.model_copy(update={"discord_webhook_url": SecretStr("")})) is False
    assert post(FAILED, sink.settings.model_copy(update={"discord_webhook_url": nowhere})) is False

    unreachable, unset, refused, posted = alerts_table.newest(sink.database, 4)
    assert (posted.title, posted.text, posted.problem) == ("upload failed", "could not sign with ***", None)
    assert (refused.title, refused.text, refused.problem) == (FAILED.title, FAILED.text, "Discord answered 500")
    assert unset.problem == "MUR_DISCORD_WEBHOOK_URL is empty"
    assert unreachable.problem == "posting failed: ConnectionError"
    assert "token-of-the-webhook" not in caplog.text


def test_a_storm_of_alerts_ends_at_a_limit_and_the_rest_is_recorded(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations_alerts, "MOST_AN_HOUR", alerts_table.posted_in_the_last_hour(sink.database) + 3)

    posted = [post(Alert(f"failure {number}", "of a storm"), sink.settings) for number in range(5)]

    assert posted == [True, True, True, False, False]
    assert len(sink.messages()) == 3
    assert "messages were posted in the last hour" in str(alerts_table.newest(sink.database, 1)[0].problem)


def test_a_service_does_not_wait_for_discord(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    monkeypatch.setattr(operations_alerts, "_send", lambda *_: answer.wait(60) and None)

    for number in range(operations_alerts._MOST_WAITING + 5):  # the last ones are dropped
        post_soon(Alert(f"slow {number}", "Discord does not answer"), sink.settings)

    assert not answer.is_set(), "each call returned before Discord answered"
    while not operations_alerts._waiting.empty():  # leave nothing to post for other tests
        with suppress(queue.Empty):
            operations_alerts._waiting.get_nowait()
            operations_alerts._waiting.task_done()
    answer.set()
    operations_alerts._waiting.join()
    assert alerts_table.newest(sink.database, 1)[0].title == "slow 0"


def test_without_a_webhook_a_lasting_failure_is_recorded_once_and_so_is_its_end(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables: dict[str, Any] = {}
    monkeypatch.setattr(alerts.Variable, "get", lambda key, default, **_: variables.get(key, default))
    monkeypatch.setattr(alerts.Variable, "set", lambda key, value, **_: variables.update({key: value}))
    found = [Failure(task="alive", pair=None, reason="no answer").model_dump(mode="json")]
    states = {"alive": "failed"}
    instance = SimpleNamespace(
        dag_id="watch_service",
        get_task_states=lambda *_, run_ids: {run_ids[0]: dict(states)},
        xcom_pull=lambda **_: [found],
    )
    context: Any = {"ti": instance, "dag": SimpleNamespace(task_ids=["alive", "look"]), "run_id": "r 1"}
    nowhere = sink.settings.model_copy(update={"discord_webhook_url": SecretStr("")})
    before = len(alerts_table.newest(sink.database, 1000))

    for _ in range(5):
        alerts.post_failures(context, (), nowhere)
    for state in ("skipped", "success", "success"):  # a round that is skipped after a start is no end of it
        states["alive"] = state
        alerts.post_failures(context, (), nowhere)
        if state == "skipped":
            assert "works again" not in alerts_table.newest(sink.database, 1)[0].title

    recorded = alerts_table.newest(sink.database, 1000)
    assert [alert.title for alert in recorded[: len(recorded) - before]] == [
        "watch_service works again",
        "watch_service: alive failed",
    ]


def test_an_alert_is_posted_while_postgres_is_away(sink: Sink) -> None:
    away = SecretStr(f"postgresql://nobody:nothing@127.0.0.1:{free_port()}/none")

    assert post(FAILED, sink.settings.model_copy(update={"database_url": away}))

    assert len(sink.messages()) == 1


def test_a_long_text_is_cut_to_what_discord_takes(sink: Sink) -> None:
    assert post(Alert("t" * 1000, "x" * 10_000), sink.settings)

    (message,) = sink.messages()
    assert len(message["embeds"][0]["title"]) <= 256
    assert message["embeds"][0]["description"].endswith("…")


@pytest.mark.parametrize(
    ("run_type", "state", "posted"),
    [("scheduled", "running", 1), ("scheduled", "failed", 0), ("backfill", "running", 0)],
)
def test_a_late_run_is_posted_and_a_late_backfill_is_not(
    sink: Sink, monkeypatch: pytest.MonkeyPatch, run_type: str, state: str, posted: int
) -> None:
    monkeypatch.setattr(alerts, "get_settings", lambda: sink.settings)
    run = {"dag_id": "train_pairs", "dag_run_id": "r 1", "run_type": run_type, "state": state}

    asyncio.run(alerts.post_late_run({"dag_run": run}, late_after_min=50))

    titles = [embed["title"] for message in sink.messages() for embed in message["embeds"]]
    assert titles == ["train_pairs is late"] * posted


def test_every_link_of_a_run_is_one_that_a_browser_can_open(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = sink.settings.model_copy(
        update={"airflow_url": "http://airflow-api-server:8080", "public_airflow_url": "https://airflow.example.com"}
    )
    monkeypatch.setattr(alerts, "get_settings", lambda: inner)
    run = {"dag_id": "train_pairs", "dag_run_id": "r 1", "run_type": "scheduled", "state": "running"}
    asyncio.run(alerts.post_late_run({"dag_run": run}, late_after_min=50))

    link = "http://localhost:8080/dags/train_pairs/runs/r%201/tasks/fetch?map_index=2&try_number=3"
    failure = Failure(task="fetch", pair="chz_usdt", reason="halted", tries=3, link=link)
    update = failure_update([failure], {"chz_usdt"}, set(), {}, now=1e9)
    assert post(failures_alert("train_pairs", "r 1", update, [failure], inner), inner)

    late, failed = (embed for message in sink.messages() for embed in message["embeds"])
    page = "https://airflow.example.com/dags/train_pairs/runs/r%201"
    assert late["url"] == failed["url"] == page
    assert f"[fetch]({page}/tasks/fetch?map_index=2&try_number=3)" in failed["description"]
