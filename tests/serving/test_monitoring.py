"""What the board, the rules and the logs promise, on a running service."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from make_us_rich.core.errors import ServingError
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from make_us_rich.pipeline.deployment import apply
from tests.support.processes import PROJECT_ROOT
from tests.support.servers import RAY_TOKEN
from tests.support.serving_servers import ServingServers
from tests.support.tiny_model import tiny_model
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(300)

MONITORING = PROJECT_ROOT / "infra" / "monitoring"
REPORTED_WITHIN_S = 120
RAY_FORGETS_AFTER_S = 20
PAIR = "ltc_usdt"  # whose metrics count the calls of this file alone


@dataclass(frozen=True)
class UsedService:
    """A service, the token of its caller, and how often the caller got each status: by header and by query."""

    servers: ServingServers
    token: str
    by_header: Counter[int]
    by_query: Counter[int]
    called_at: float = field(default_factory=time.monotonic)  # after its last forecast was computed


@pytest.fixture(scope="module")
def used_service(serving: ServingServers) -> Iterator[UsedService]:
    """One that served, swapped, refused a model and refused a caller, each by header and by query."""
    database = Database(serving.database_url)
    pairs_table.put(database, PAIR)
    serving.promote(PAIR, tiny_model(PAIR))
    apply(serving.settings)
    serving.promote(PAIR, tiny_model(PAIR, log_returns=(0.0,) * 7))
    with pytest.raises(ServingError):
        apply(serving.settings)
    yield _call(serving)
    pairs_table.remove(database, PAIR)
    apply(serving.settings)
    ready = f"{serving.settings.api_url}/readyz"
    wait_until(lambda: f"{PAIR}_1h" not in httpx.get(ready).json()["pairs"], 90, f"{PAIR} is still served")


def _call(servers: ServingServers) -> UsedService:
    caller = servers.accounts.users.create("hasty", "a password for tests")
    token = servers.accounts.tokens.create(caller.user_id, "tests")
    header = {"Authorization": f"Bearer {token}", "X-Request-ID": "a-request-of-the-test"}
    query = {"pair": PAIR, "token": token}
    with httpx.Client(base_url=servers.settings.api_url, timeout=60) as api:

        def by_header() -> int:
            return api.get(f"/v1/forecasts/{PAIR}", headers=header).status_code

        def by_query() -> int:
            return api.put("/predict", params=query).status_code

        found = UsedService(servers, token, Counter([by_header()]), Counter(by_query() for _ in range(2)))
        assert (found.by_header, found.by_query) == (Counter({200: 1}), Counter({200: 2}))
        _call_until_refused(by_header, found.by_header)
        _call_until_refused(by_query, found.by_query)
        admin = {"Authorization": f"Bearer {servers.admin_token}"}
        assert api.get("/v1/forecasts/nobody_usdt", headers=admin).status_code == 404
    assert set(found.by_header) == set(found.by_query) == {200, 429}
    return found


def _call_until_refused(call: Callable[[], int], statuses: Counter[int]) -> None:
    """Use up the minute, which is refilled all the while."""
    with ThreadPoolExecutor(8) as threads:
        while not statuses[429]:
            statuses.update(threads.map(lambda _: call(), range(50)))


def metrics_of(servers: ServingServers) -> str:
    headers = {"Authorization": f"Bearer {RAY_TOKEN}"}
    discovered = httpx.get(f"{servers.settings.ray_url}/api/prometheus/sd", headers=headers).raise_for_status()
    targets = {target for group in discovered.json() for target in group["targets"]}
    pages = [httpx.get(f"http://{target}/metrics", headers=headers, timeout=30) for target in targets]
    return "".join(page.raise_for_status().text for page in pages)


def _named(expressions: list[str]) -> set[str]:
    return {name for text in expressions for name in re.findall(r"\bray_[a-z_]+", text)}


def _of_the_board() -> list[str]:
    board = json.loads((MONITORING / "grafana/dashboards/serving.json").read_text())
    return [target["expr"] for panel in board["panels"] for target in panel["targets"]]


def _of_the_rules() -> list[str]:
    groups = yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"]
    rules = [rule["expr"] for group in groups for rule in group["rules"]]
    return [text for text in rules if _named([text])]  # the others ask the watchdog


def test_every_metric_of_board_and_rules_is_exported(used_service: UsedService) -> None:
    wanted = _named([*_of_the_board(), *_of_the_rules()])
    assert len(wanted) > 10
    deadline = time.monotonic() + REPORTED_WITHIN_S
    while wanted - (exported := _exported(metrics_of(used_service.servers))) and time.monotonic() < deadline:
        time.sleep(2)
    assert wanted - exported == set()


def test_every_label_that_board_and_rules_ask_for_is_exported(used_service: UsedService) -> None:
    """After the test above, which waits until each metric is there."""
    page = metrics_of(used_service.servers)
    for text in [*_of_the_board(), *_of_the_rules()]:
        exported = {label for name in _named([text]) for label in _labels(page, name)}
        matched = re.findall(r"[{,]\s*([a-z_]+)\s*[=!]", re.sub(r"\bup\{[^}]*\}", "", text))
        grouped = [name for names in re.findall(r"\b(?:by|on) \(([^)]*)\)", text) for name in re.findall(r"\w+", names)]
        assert exported, text
        assert {*matched, *grouped} - exported == set(), text


def _labels(page: str, name: str) -> set[str]:
    lines = [line for line in page.splitlines() if line.startswith(f"{name}{{")]
    return {label for line in lines for label in re.findall(r"[{,]([A-Za-z_]+)=", line)}


def _exported(page: str) -> set[str]:
    return {re.split(r"[{ ]", line, maxsplit=1)[0] for line in page.splitlines() if not line.startswith("#")}


@pytest.mark.parametrize(("name", "count"), [("model_swaps", 1), ("model_refusals", 1)])
def test_metrics_count_swapped_and_refused_models(used_service: UsedService, name: str, count: int) -> None:
    _wait_for_sum(used_service, f"ray_mur_{name}_total", {"pair": PAIR, "interval": "1h"}, lambda: count)


def test_metrics_count_what_the_caller_got(used_service: UsedService) -> None:
    served, refused = used_service.by_header[200], used_service.by_header[429] + used_service.by_query[429]
    _wait_for_sum(used_service, "ray_mur_pair_request_seconds_count", {"pair": PAIR}, lambda: served)
    _wait_for_sum(used_service, "ray_mur_quota_refusals_total", {"used_up": "minute"}, lambda: refused)


@pytest.mark.parametrize("status", [200, 429])
def test_metrics_count_each_request_that_is_logged(used_service: UsedService, status: int) -> None:
    def logged() -> int:
        return sum((line["path"], line["status"]) == ("/predict", status) for line in _requests(used_service.servers))

    assert logged() >= used_service.by_query[status] > 0
    _wait_for_sum(used_service, "ray_mur_requests_total", {"route": "/predict", "status": str(status)}, logged)


def _wait_for_sum(used_service: UsedService, name: str, tags: dict[str, str], count: Callable[[], int]) -> None:
    deadline = time.monotonic() + REPORTED_WITHIN_S
    while (seen := _sum(metrics_of(used_service.servers), name, tags)) != count() and time.monotonic() < deadline:
        time.sleep(1)
    assert seen == count()


def _sum(page: str, name: str, tags: dict[str, str]) -> float:
    lines = [line for line in page.splitlines() if line.startswith(f"{name}{{")]
    found = [line for line in lines if all(f'{key}="{value}"' in line for key, value in tags.items())]
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)


def test_a_caller_cannot_fill_prometheus_with_pairs(used_service: UsedService) -> None:
    assert "nobody_usdt" not in metrics_of(used_service.servers)


def test_logs_are_json_with_the_request_and_without_tokens(used_service: UsedService) -> None:
    servers = used_service.servers
    everything = "".join(_logs(servers).values())
    for token in (used_service.token, servers.member_token, servers.admin_token, "a-secret-of-discord", RAY_TOKEN):
        assert token not in everything
    requests = _requests(servers)
    assert all(line["request_id"] for line in requests), "those without an id of the caller get one"
    ours = next(line for line in requests if line["request_id"] == "a-request-of-the-test")
    assert (ours["method"], ours["path"], ours["status"], ours["pair"]) == ("GET", "/v1/forecasts/{pair}", 200, PAIR)
    assert ours["caller"] > 0


def _requests(servers: ServingServers) -> list[dict[str, Any]]:
    """Return the gateway's lines about requests; each of its lines is JSON."""
    gateway = "".join(text for path, text in _logs(servers).items() if path.name.startswith("replica_gateway"))
    lines: list[dict[str, Any]] = [json.loads(line) for line in gateway.splitlines()]
    return [line for line in lines if line["message"] == "request"]


def _logs(servers: ServingServers) -> dict[Path, str]:
    folder = servers.folder / "ray" / "session_latest" / "logs"
    return {path: path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file()}


def test_the_age_of_a_forecast_is_exported_after_ray_would_have_forgotten_it(used_service: UsedService) -> None:
    forgotten_at = used_service.called_at + RAY_FORGETS_AFTER_S + 5  # most of which the tests above took
    wait_until(lambda: time.monotonic() > forgotten_at, RAY_FORGETS_AFTER_S + 30, "time stands still")
    page = metrics_of(used_service.servers)
    for name in ("forecast_as_of_seconds", "model_as_of_seconds"):
        assert _sum(page, f"ray_mur_{name}", {"pair": PAIR, "interval": "1h"}) > 0
