"""Faults around a running service, as its callers and the watchdog see them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator

import httpx
import psutil
import pytest

from make_us_rich.client import Client
from make_us_rich.core.errors import ServingError
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import Series
from make_us_rich.core.settings import Settings
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from make_us_rich.operations.health import check_api, check_pairs
from make_us_rich.pipeline.deployment import apply
from serve_app.keep import Keeper
from serve_app.replica.forecast import ForecastSnapshot
from tests.support.folders import traversable_folder
from tests.support.forecasts import make_forecast
from tests.support.serving_servers import ServingServers, ray_headers, replica_pids, replicas, serving_servers
from tests.support.tiny_model import tiny_model
from tests.support.waiting import wait_until, wait_without_fault_until

pytestmark = pytest.mark.timeout(400)

STALE = "ltc_usdt"
NEW = "xrp_usdt"  # served by the foundation model


@pytest.fixture(scope="module")
def serving() -> Iterator[ServingServers]:
    with traversable_folder() as folder, serving_servers(folder, {"MUR_PAIRS": "btc_usdt,eth_usdt"}) as servers:
        for pair in ("btc_usdt", "eth_usdt"):
            servers.promote(pair, tiny_model(pair))
        apply(servers.settings)
        yield servers


@pytest.fixture
def api(serving: ServingServers) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {serving.admin_token}"}
    with httpx.Client(base_url=serving.settings.api_url, headers=headers, timeout=60) as client:
        yield client


def test_the_watchdog_reports_stale_pairs_and_no_others(serving: ServingServers, api: httpx.Client) -> None:
    assert _problems(serving.settings) == {"btc_usdt": None, "eth_usdt": None}

    _start_from_an_old_candle(serving, STALE)
    serving.promote("foundation", tiny_model("foundation"))
    pairs_table.put(Database(serving.database_url), NEW)
    sleepy = serving.settings.model_copy(update={"idle_replica_s": 1})
    pairs_table.put(Database(serving.database_url), "eth_usdt", min_replicas=0)
    apply(sleepy)
    states = wait_without_fault_until(
        lambda: (pairs := api.get("/readyz").json()["pairs"])["eth_usdt_1h"]["asleep"] and pairs,
        90,
        "eth_usdt is not scaled to zero",
    )
    assert states[f"{STALE}_1h"]["ready"]

    found = _problems(serving.settings)
    assert "hours old" in found.pop(STALE)
    assert found == {"btc_usdt": None, "eth_usdt": None, NEW: None}

    promoted = serving.promote("btc_usdt", tiny_model("btc_usdt"))
    assert _problems(serving.settings)["btc_usdt"] is None, "a swap may take a quarter of an hour"
    late = _problems(serving.settings, now_ms=time.time_ns() // 1_000_000 + 3 * HOUR_MS)
    assert late["btc_usdt"] == f"it serves version 1 of btc_usdt_1h instead of its champion, version {promoted}"
    assert "hours old" in late[NEW]
    assert late["eth_usdt"] is None, "it sleeps, and looks for candles when it is asked"
    apply(sleepy)
    assert _problems(serving.settings)["btc_usdt"] is None
    for pair in (STALE, NEW):  # fewer replicas to start again in the tests below
        pairs_table.remove(Database(serving.database_url), pair)


def _problems(settings: Settings, *, now_ms: int | None = None) -> dict[str, str | None]:
    return {str(item.pair): item.problem for item in check_pairs(settings, now_ms=now_ms)}


def _start_from_an_old_candle(serving: ServingServers, pair: str) -> None:
    """Deploy a pair from a snapshot of five hours ago, while the exchange fails for it."""
    fault = {"symbol": pair.replace("_", "").upper(), "kind": "500"}
    httpx.post(f"{serving.settings.exchange_url}/_control/faults", json=fault).raise_for_status()
    kept = make_forecast(pair, as_of_ms=time.time_ns() // 1_000_000 - 5 * HOUR_MS)
    ForecastSnapshot(serving.folder / "cache", Series(kept.pair, Interval.H1), "simulated").save(kept)
    serving.promote(pair, tiny_model(pair))
    pairs_table.put(Database(serving.database_url), pair)


def test_an_idle_pair_scales_to_zero_and_starts_with_the_next_call(serving: ServingServers, api: httpx.Client) -> None:
    settings = serving.settings.model_copy(update={"idle_replica_s": 1})
    pairs_table.put(Database(serving.database_url), "eth_usdt", min_replicas=0)
    apply(settings)
    api.get("/v1/forecasts/eth_usdt").raise_for_status()
    wait_without_fault_until(lambda: _is_asleep(api, "eth_usdt_1h"), 90, "eth_usdt does not fall asleep")
    wait_without_fault_until(lambda: not replicas(serving, "eth_usdt_1h"), 90, "the replica does not stop")
    apply(settings)
    assert api.get("/v1/forecasts/eth_usdt").status_code == 200, "from the gateway's cache: the replica is not started"
    assert replicas(serving, "eth_usdt_1h") == []
    (gateway,) = replica_pids(serving, "gateway")
    os.kill(gateway, signal.SIGKILL)  # its successor has no cached forecast
    wait_without_fault_until(lambda: gateway not in replica_pids(serving, "gateway"), 90, "the gateway is not killed")
    wait_without_fault_until(lambda: _is_asleep(api, "eth_usdt_1h"), 90, "eth_usdt does not fall asleep")
    missing = {item["pair"]: item["detail"] for item in api.get("/v1/forecasts").json()["missing"]}
    assert "asleep" in missing["eth_usdt"]
    time.sleep(2)
    assert replicas(serving, "eth_usdt_1h") == [], "a request for all pairs starts no replica"
    started = time.monotonic()
    assert api.get("/v1/candles/eth_usdt").status_code == 200
    print(f"started in {time.monotonic() - started:.1f} s")
    assert len(replicas(serving, "eth_usdt_1h")) == 1
    pairs_table.remove(Database(serving.database_url), "eth_usdt")


def _is_asleep(api: httpx.Client, name: str) -> bool:
    try:
        pairs = api.get("/readyz").json().get("pairs", {})
    except httpx.TransportError:  # cut off, when a test has just killed the gateway
        return False
    return name in pairs and bool(pairs[name]["asleep"])


@pytest.mark.parametrize("gateways", [2, 1])
def test_calls_survive_the_kill_of_a_gateway(serving: ServingServers, api: httpx.Client, gateways: int) -> None:
    """With one gateway, calls wait for its successor. Only an answer that had begun to arrive may be cut off."""
    apply(serving.settings.model_copy(update={"gateway_replicas": str(gateways)}))
    stop = threading.Event()
    answers: Counter[int] = Counter()
    cut_off: list[str] = []

    def call() -> None:
        with httpx.Client(base_url=serving.settings.api_url, headers=api.headers, timeout=60) as client:
            while not stop.is_set():
                try:
                    answers[client.get("/v1/forecasts/btc_usdt").status_code] += 1
                except httpx.RemoteProtocolError as error:
                    cut_off.append(str(error))

    callers = [threading.Thread(target=call) for _ in range(8)]
    for caller in callers:
        caller.start()
    try:
        wait_without_fault_until(lambda: answers.total() > 50, 90, "no call is answered")
        killed, *_ = replica_pids(serving, "gateway")
        os.kill(killed, signal.SIGKILL)
        wait_without_fault_until(
            lambda: len(set(replica_pids(serving, "gateway")) - {killed}) == gateways,
            90,
            "the killed gateway has no successor",
        )
        answered = answers.total()
        wait_without_fault_until(lambda: answers.total() > answered + 50, 90, "no call is answered after the kill")
    finally:
        stop.set()
        for caller in callers:
            caller.join()
    assert answers.total() > 100
    assert set(answers) == {200}
    assert all("without sending complete message body" in each for each in cut_off)


def test_update_models_returns_at_once_while_a_replica_hangs(serving: ServingServers, api: httpx.Client) -> None:
    (replica,) = replica_pids(serving, "btc_usdt_1h")
    version = serving.promote("btc_usdt", tiny_model("btc_usdt"))
    os.kill(replica, signal.SIGSTOP)
    try:
        began = time.monotonic()
        accepted = api.put("/update_models")
        print(f"{accepted.status_code} after {time.monotonic() - began:.1f} s")
        assert accepted.status_code == 202, accepted.text
        assert accepted.headers["Location"] == "/readyz"
        assert accepted.json()["applications"]["btc_usdt_1h"] == version
        state = api.get("/readyz", timeout=60).json()["pairs"]["btc_usdt_1h"]
        assert "does not answer" in state["reason"]
    finally:
        os.kill(replica, signal.SIGCONT)
    with Client(serving.settings.api_url, serving.admin_token) as client:
        client.update_models(wait_s=60)
        assert client.forecast("btc_usdt").model.version == version


def test_applications_that_serve_has_lost_are_deployed_again(serving: ServingServers, api: httpx.Client) -> None:
    with httpx.Client(base_url=serving.settings.ray_url, headers=ray_headers(serving), timeout=60) as ray:
        ray.delete("/api/serve/applications/").raise_for_status()  # as after a restart of the Ray head
        # the one that shuts down would still accept a deployment
        wait_without_fault_until(lambda: _has_no_controller(ray), 90, "Serve's controller does not end")
    with pytest.raises(ServingError):
        check_api(serving.settings)

    deployed = Keeper(serving.settings, lambda settings: str(apply(settings, wait_for=()))).step()

    assert deployed.startswith("deployed to session_"), deployed
    wait_until(lambda: api.get("/v1/forecasts/btc_usdt").status_code == 200, 120, "no forecast")
    check_api(serving.settings)


def test_a_killed_proxy_is_replaced(serving: ServingServers, api: httpx.Client) -> None:
    (proxy,) = [
        process
        for process in psutil.process_iter()
        if process.name() == "haproxy" and any(str(serving.folder) in word for word in process.cmdline())
    ]
    proxy.kill()

    wait_until(lambda: api.get("/v1/forecasts/btc_usdt").status_code == 200, 60, "no proxy")

    assert not proxy.is_running()


def test_a_deployment_survives_a_restart_of_rays_serve_module(serving: ServingServers) -> None:
    """Ray's dashboard restarts this module of its own when the node does not respond for half a minute."""
    (module,) = _serve_modules(serving)
    module.suspend()  # so that the deployment is under way when the module is killed
    killer = threading.Timer(0.5, module.kill)
    killer.start()

    apply(serving.settings)

    killer.join()
    assert [process.pid for process in _serve_modules(serving)] != [module.pid]


def _serve_modules(serving: ServingServers) -> list[psutil.Process]:
    """Return the processes of the module in this cluster, which are known by the log that they write."""
    named = [process for process in psutil.process_iter() if process.name().startswith("ray-dashboard-S")]
    return [
        process
        for process in named
        if any(file.path.startswith(str(serving.folder)) and "ServeHead" in file.path for file in process.open_files())
    ]


def _has_no_controller(ray: httpx.Client) -> bool:
    answer = ray.get("/api/serve/applications/")
    return answer.is_success and not answer.json()["controller_info"]
