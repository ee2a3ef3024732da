"""What the board, the rules and the logs promise, on a running service."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from make_us_rich.core.errors import ServingError
from make_us_rich.operations.serve_deploy import apply
from tests.support.folders import traversable_folder
from tests.support.processes import PROJECT_ROOT
from tests.support.servers import RAY_TOKEN
from tests.support.serving_servers import ServingServers, serving_servers
from tests.support.tiny_model import tiny_model

pytestmark = pytest.mark.timeout(300)

MONITORING = PROJECT_ROOT / "infra" / "monitoring"
# Ray's agents report every ten seconds.
REPORTED_WITHIN_S = 60


@pytest.fixture(scope="module")
def used_service() -> Iterator[ServingServers]:
    """One that served, swapped, refused a model and refused a caller, each by header and by query."""
    with traversable_folder() as folder:
        environment = {"MUR_PAIRS": "btc_usdt", "MUR_CALLS_PER_MINUTE": "3"}
        with serving_servers(folder, environment) as servers:
            servers.promote("btc_usdt", tiny_model("btc_usdt"))
            apply(servers.settings)
            servers.promote("btc_usdt", tiny_model("btc_usdt", log_returns=(0.0,) * 7))
            with pytest.raises(ServingError):
                apply(servers.settings)
            _call(servers)
            yield servers


def _call(servers: ServingServers) -> None:
    with httpx.Client(base_url=servers.settings.api_url, timeout=30) as api:
        header = {"Authorization": f"Bearer {servers.member_token}", "X-Request-ID": "a-request-of-the-test"}
        assert api.get("/v1/forecasts/btc_usdt", headers=header).status_code == 200
        query = {"pair": "btc_usdt", "token": servers.member_token}
        statuses = [api.put("/predict", params=query).status_code for _ in range(4)]
        assert statuses == [200, 200, 429, 429]
        assert api.get("/v1/forecasts/nobody_usdt", headers=header).status_code in (404, 429)


def metrics_of(servers: ServingServers) -> str:
    headers = {"Authorization": f"Bearer {RAY_TOKEN}"}
    discovered = httpx.get(f"{servers.settings.ray_url}/api/prometheus/sd", headers=headers).raise_for_status()
    targets = {target for group in discovered.json() for target in group["targets"]}
    pages = [httpx.get(f"http://{target}/metrics", headers=headers).raise_for_status() for target in targets]
    return "".join(page.text for page in pages)


def _named(expressions: list[str]) -> set[str]:
    return {name for text in expressions for name in re.findall(r"\bray_[a-z_]+", text)}


def _of_the_board() -> set[str]:
    board = json.loads((MONITORING / "grafana/dashboards/serving.json").read_text())
    return _named([target["expr"] for panel in board["panels"] for target in panel["targets"]])


def _of_the_rules() -> set[str]:
    groups = yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"]
    return _named([rule["expr"] for group in groups for rule in group["rules"]])


def test_every_metric_of_board_and_rules_is_exported(used_service: ServingServers) -> None:
    wanted = _of_the_board() | _of_the_rules()
    assert len(wanted) > 10
    deadline = time.monotonic() + REPORTED_WITHIN_S
    while wanted - (exported := _exported(metrics_of(used_service))) and time.monotonic() < deadline:
        time.sleep(2)
    assert wanted - exported == set()


def _exported(page: str) -> set[str]:
    return {re.split(r"[{ ]", line, maxsplit=1)[0] for line in page.splitlines() if not line.startswith("#")}


@pytest.mark.parametrize(
    ("name", "tags", "count"),
    [
        ("ray_mur_requests_total", {"route": "/predict", "status": "200"}, 2),
        ("ray_mur_requests_total", {"route": "/predict", "status": "429"}, 2),
        ("ray_mur_quota_refusals_total", {"used_up": "minute"}, 3),
        ("ray_mur_pair_request_seconds_count", {"pair": "btc_usdt"}, 1),
        ("ray_mur_model_swaps_total", {"pair": "btc_usdt", "interval": "1h"}, 1),
        ("ray_mur_model_refusals_total", {"pair": "btc_usdt", "interval": "1h"}, 1),
    ],
)
def test_metrics_tell_what_happened(used_service: ServingServers, name: str, tags: dict[str, str], count: int) -> None:
    deadline = time.monotonic() + REPORTED_WITHIN_S
    while (seen := _sum(metrics_of(used_service), name, tags)) != count and time.monotonic() < deadline:
        time.sleep(2)
    assert seen == count


def _sum(page: str, name: str, tags: dict[str, str]) -> float:
    lines = [line for line in page.splitlines() if line.startswith(f"{name}{{")]
    found = [line for line in lines if all(f'{key}="{value}"' in line for key, value in tags.items())]
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)


def test_a_caller_cannot_fill_prometheus_with_pairs(used_service: ServingServers) -> None:
    assert "nobody_usdt" not in metrics_of(used_service)


def test_logs_are_json_with_the_request_and_without_tokens(used_service: ServingServers) -> None:
    logs = used_service.folder / "ray" / "session_latest" / "logs"
    texts = {path: path.read_text(errors="replace") for path in logs.rglob("*") if path.is_file()}
    everything = "".join(texts.values())
    for token in (used_service.member_token, used_service.admin_token, "a-secret-of-discord", RAY_TOKEN):
        assert token not in everything
    gateway = "".join(text for path, text in texts.items() if path.name.startswith("replica_gateway"))
    lines: list[dict[str, Any]] = [json.loads(line) for line in gateway.splitlines()]
    requests = [line for line in lines if line["message"] == "request"]
    assert all(line["request_id"] for line in requests), "those without an id of the caller get one"
    (ours,) = [line for line in requests if line["request_id"] == "a-request-of-the-test"][:1]
    assert (ours["method"], ours["path"], ours["status"], ours["pair"]) == (
        "GET",
        "/v1/forecasts/{pair}",
        200,
        "btc_usdt",
    )
    assert ours["caller"] > 0
