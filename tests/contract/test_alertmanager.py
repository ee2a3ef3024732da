"""Debian's Alertmanager with the project's configuration: what arrives in Discord."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import httpx
import pytest

from tests.support.processes import PROJECT_ROOT, free_port, running
from tests.support.servers import discord_server
from tests.support.waiting import wait_until

CONFIGURATION = PROJECT_ROOT / "infra" / "monitoring" / "alertmanager.yml"
PROGRAM = "prometheus-alertmanager"


@pytest.mark.skipif(
    shutil.which(PROGRAM) is None,
    reason=f"{PROGRAM} is not installed: `make promtool`, or `apt-get install --no-install-recommends {PROGRAM}`",
)
def test_one_alarm_of_two_pairs_is_one_message_and_its_consequences_are_none(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with discord_server() as discord:
        # Debian's 0.25 reads the address from the configuration alone
        address = f"webhook_url: {discord}/api/webhooks/1/token"
        text, replaced = re.subn(r"webhook_url_file: \S+", address, CONFIGURATION.read_text())
        assert replaced == 1
        (tmp_path / "alertmanager.yml").write_text(text.replace("group_wait: 30s", "group_wait: 1s"))
        command = [
            PROGRAM,
            f"--config.file={tmp_path}/alertmanager.yml",
            f"--storage.path={tmp_path}/data",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ]
        with running(command, f"{url}/-/ready", tmp_path / "alertmanager.log"):
            alarms = [
                _alarm("RayAbsent", "Prometheus knows no node of Ray"),
                _alarm("GatewayDown", "no gateway"),
                _alarm("ModelRefused", "a model of btc_usdt failed", pair="btc_usdt"),
                _alarm("ModelRefused", "a model of eth_usdt failed", pair="eth_usdt"),
            ]
            httpx.post(f"{url}/api/v2/alerts", json=alarms, timeout=30).raise_for_status()

            def messages() -> dict[str, str]:
                posted = httpx.get(f"{discord}/_control/messages").json()
                return {embed["title"]: embed["description"] for message in posted for embed in message["embeds"]}

            wait_until(lambda: len(messages()) >= 2, 60, "nothing was posted")
            found = messages()
    assert set(found) == {"RayAbsent", "ModelRefused"}
    assert found["ModelRefused"] == (
        "a model of btc_usdt failed\na model of eth_usdt failed\nWhat to do: docs/how-to/alarms.md#modelrefused"
    )


def _alarm(name: str, summary: str, **labels: str) -> dict[str, dict[str, str]]:
    runbook = f"docs/how-to/alarms.md#{name.lower()}"
    return {"labels": {"alertname": name, **labels}, "annotations": {"summary": summary, "runbook_url": runbook}}
