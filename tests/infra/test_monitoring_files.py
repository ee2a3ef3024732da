"""Prometheus' rules and configuration by Debian's promtool, which `make test` installs, and where alarms go."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from make_us_rich.core.settings import Settings
from make_us_rich.operations.watchdog import Looker
from make_us_rich.pipeline.airflow import DagState
from tests.support.processes import PROJECT_ROOT

MONITORING = PROJECT_ROOT / "infra" / "monitoring"
RUNBOOK = PROJECT_ROOT / "docs" / "how-to" / "alarms.md"
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed: `make promtool`, or `apt-get install --no-install-recommends prometheus`",
)


def _rules() -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"]:
        yield from group["rules"]


def _promtool(*arguments: str | Path) -> str:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


@needs_promtool
def test_the_rules_fire_on_their_faults_and_are_silent_otherwise() -> None:
    assert "SUCCESS" in _promtool("test", "rules", MONITORING / "rules_test.yml")


@needs_promtool
def test_the_files_are_valid() -> None:
    _promtool("check", "rules", MONITORING / "rules.yml")
    _promtool("check", "config", "--syntax-only", MONITORING / "prometheus.yml")


@needs_promtool
def test_a_rule_that_never_fires_is_noticed(tmp_path: Path) -> None:
    """The tests of the rules are no formality: with a limit that is never reached, they fail."""
    text = (MONITORING / "rules.yml").read_text()
    (tmp_path / "rules.yml").write_text(text.replace("up == 0", "up == 7"))
    shutil.copy(MONITORING / "rules_test.yml", tmp_path)
    with pytest.raises(AssertionError, match="TargetDown"):
        _promtool("test", "rules", tmp_path / "rules_test.yml")


def test_each_alarm_is_proven_to_fire() -> None:
    tests = yaml.safe_load((MONITORING / "rules_test.yml").read_text())["tests"]
    proven = {
        case["alertname"] for test in tests for case in test.get("alert_rule_test", ()) if case["exp_alerts"] != []
    }
    assert {rule["alert"] for rule in _rules()} == proven


def test_each_alarm_names_a_section_of_the_runbook() -> None:
    anchors = {title.strip().lower() for title in re.findall(r"^### (.+)$", RUNBOOK.read_text(), re.MULTILINE)}
    for rule in _rules():
        path, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert PROJECT_ROOT / path == RUNBOOK
        assert anchor == rule["alert"].lower()
        assert anchor in anchors


def test_prometheus_keeps_what_rules_and_board_use_and_little_else() -> None:
    (kept,) = _scrapes()["ray"]["metric_relabel_configs"]
    assert (kept["source_labels"], kept["action"]) == (["__name__"], "keep")
    board = json.loads((MONITORING / "grafana/dashboards/serving.json").read_text())
    texts = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    texts += [rule["expr"] for rule in _rules()]
    used = {name for text in texts for name in re.findall(r"\bray_[a-z_]+", text)}
    assert len(used) > 10
    assert [name for name in sorted(used) if not re.fullmatch(kept["regex"], name)] == []
    for name in ("ray_tasks", "ray_serve_long_poll_latency_ms_bucket", "autoscaler_worker_update_time_seconds_bucket"):
        assert not re.fullmatch(kept["regex"], name)


def test_rays_token_is_sent_by_old_prometheuses_too() -> None:
    ray = _scrapes()["ray"]
    for authorization in (ray["authorization"], ray["http_sd_configs"][0]["authorization"]):
        assert authorization == {"type": "Bearer", "credentials_file": "/run/secrets/ray_token"}


def test_the_rules_ask_the_watchdog_for_what_it_exports() -> None:
    dags = [DagState("train_pairs", False, 0.0), DagState("housekeeping", True, None)]
    page = Looker(Settings()).round({"postgres": None}, dags, 1.0).metrics()
    exported = set(re.findall(r"^(\w+)", page, re.MULTILINE))
    asked = {name for rule in _rules() for name in re.findall(r"\bmur_[a-z_]+", rule["expr"])}
    assert asked == exported
    services = yaml.safe_load((PROJECT_ROOT / "docker-compose.yml").read_text())["services"]
    assert _scrapes()["watchdog"]["static_configs"] == [{"targets": ["watchdog:9109"]}]
    assert "--port=9109" in services["watchdog"]["command"]


def _scrapes() -> dict[str, Any]:
    scrapes = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"]
    return {scrape["job_name"]: scrape for scrape in scrapes}


def test_alarms_go_to_the_alertmanager_of_compose_and_from_there_to_discord() -> None:
    services = yaml.safe_load((PROJECT_ROOT / "docker-compose.yml").read_text())["services"]
    (target,) = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["alerting"]["alertmanagers"]
    assert target["static_configs"] == [{"targets": ["alertmanager:9093"]}]
    alertmanager = services["alertmanager"]
    assert alertmanager["profiles"] == services["prometheus"]["profiles"]
    configuration = yaml.safe_load((MONITORING / "alertmanager.yml").read_text())
    (receiver,) = configuration["receivers"]
    assert configuration["route"]["receiver"] == receiver["name"]
    (discord,) = receiver["discord_configs"]
    written = re.findall(r'"\$\$MUR_DISCORD_WEBHOOK_URL" > (\S+)', alertmanager["command"][0])
    assert written == [discord["webhook_url_file"]]
    named = {
        name
        for rule in configuration["inhibit_rules"]
        for matchers in (rule["source_matchers"], rule["target_matchers"])
        for text in matchers
        for name in re.findall(r"[A-Z]\w+", text)
    }
    assert named <= {rule["alert"] for rule in _rules()}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl, which holds kustomize, is not on PATH")
def test_kubernetes_runs_the_same_files() -> None:
    command = ["kubectl", "kustomize", str(MONITORING)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert made.returncode == 0, made.stderr
    manifests = list(yaml.safe_load_all(made.stdout))
    for manifest in manifests:
        kubernetes_validate.validate(manifest, "1.33", strict=True)
        assert manifest["metadata"].get("namespace", "monitoring") == "monitoring"
    files = {name: text for item in manifests for name, text in item.get("data", {}).items()}
    for name in ("prometheus.yml", "rules.yml", "alertmanager.yml"):
        assert files[name] == (MONITORING / name).read_text()

    services = {item["metadata"]["name"] for item in manifests if item["kind"] == "Service"}
    hosts = set(re.findall(r"(?:http://|targets: \[)([a-z]+):\d+", files["prometheus.yml"]))
    assert hosts == {"ray", "watchdog", "alertmanager"}
    assert hosts <= services
    pods = [item["spec"]["template"]["spec"] for item in manifests if item["kind"] == "StatefulSet"]
    mounted = {mount["mountPath"] for pod in pods for mount in pod["containers"][0]["volumeMounts"]}
    read = set(re.findall(r"_file: (\S+)", files["prometheus.yml"] + files["alertmanager.yml"]))
    assert read == {"/run/secrets/ray_token", "/tmp/discord_webhook_url"}
    assert read <= mounted
    assert all(pod["securityContext"]["runAsNonRoot"] for pod in pods)
    compose = (PROJECT_ROOT / "docker-compose.yml").read_text()
    assert all(pod["containers"][0]["image"] in compose for pod in pods)
