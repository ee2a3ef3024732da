from __future__ import annotations

from typing import Any

from make_us_rich.core.pair import Series
from make_us_rich.core.settings import Settings
from make_us_rich.database.pairs import ServingPlan, TrackedPair
from make_us_rich.pipeline.deployment import GATEWAY, POOL, desired_config
from make_us_rich.registry.client import ModelVersion

SETTINGS = Settings(api_url="http://127.0.0.1:28123", ongoing_calls_a_replica=7, idle_replica_s=60)


def _tracked(pair: str, plan: ServingPlan = "dedicated", least: int = 1, most: int = 1) -> TrackedPair:
    return TrackedPair(pair, plan, least, most, parked_at=None, parked_reason=None)


def _version(name: str, version: int) -> ModelVersion:
    return ModelVersion(name, version, run_id=f"run-{version}", created_ms=0, tags={})


def _applications(pairs: list[TrackedPair], models: dict[str, ModelVersion]) -> dict[str, dict[str, Any]]:
    config = desired_config(SETTINGS, pairs, {Series.parse(name): model for name, model in models.items()})
    return {application["name"]: application for application in config["applications"]}


def _btc_deployment(least: int, most: int, version: int = 4) -> dict[str, Any]:
    applications = _applications(
        [_tracked("btc_usdt", "dedicated", least, most)], {"btc_usdt_1h": _version("btc_usdt_1h", version)}
    )
    (deployment,) = applications["btc_usdt_1h"]["deployments"]
    return dict(deployment)


def test_every_pair_with_a_model_is_an_application_of_its_own() -> None:
    pairs = [_tracked("btc_usdt"), _tracked("eth_usdt")]
    applications = _applications(pairs, {"btc_usdt_1h": _version("btc_usdt_1h", 4)})
    assert set(applications) == {GATEWAY, "btc_usdt_1h"}
    assert applications["btc_usdt_1h"]["route_prefix"] is None


def test_pooled_pairs_share_one_application() -> None:
    pairs = [_tracked("btc_usdt"), _tracked("eth_usdt", "pooled"), _tracked("chz_usdt", "pooled")]
    models = {name: _version(name, 2) for name in ("btc_usdt_1h", "eth_usdt_1h")}
    applications = _applications(pairs, models)
    assert set(applications) == {GATEWAY, POOL, "btc_usdt_1h"}
    assert applications[POOL]["deployments"][0]["user_config"] == {
        "eth_usdt_1h": {"name": "eth_usdt_1h", "version": 2, "run_id": "run-2"}
    }


def test_a_pair_is_served_at_each_interval_by_its_plan() -> None:
    pairs = [_tracked("btc_usdt"), _tracked("eth_usdt", "pooled")]
    names = [f"{pair}_{interval}" for pair in ("btc_usdt", "eth_usdt") for interval in ("1h", "4h")]
    applications = _applications(pairs, {name: _version(name, 1) for name in names})
    assert set(applications) == {GATEWAY, POOL, "btc_usdt_1h", "btc_usdt_4h"}
    assert applications["btc_usdt_4h"]["args"] == {"series": "btc_usdt_4h"}
    assert set(applications[POOL]["deployments"][0]["user_config"]) == {"eth_usdt_1h", "eth_usdt_4h"}


def test_a_pair_keeps_its_application_when_its_first_own_model_replaces_the_foundation() -> None:
    pairs = [_tracked("btc_usdt")]
    before, after = (
        _applications(pairs, {"btc_usdt_1h": model})
        for model in (_version("foundation_1h", 9), _version("btc_usdt_1h", 1))
    )
    old, new = before["btc_usdt_1h"]["deployments"][0], after["btc_usdt_1h"]["deployments"][0]
    assert old.pop("user_config") == {"name": "foundation_1h", "version": 9, "run_id": "run-9"}
    assert new.pop("user_config") == {"name": "btc_usdt_1h", "version": 1, "run_id": "run-1"}
    assert before == after, "or the replica would restart"


def test_a_pair_scales_up_at_once_and_down_later() -> None:
    assert _btc_deployment(1, 3)["autoscaling_config"] == {
        "min_replicas": 1,
        "max_replicas": 3,
        "target_ongoing_requests": 7,
        "upscale_delay_s": 0,
        "downscale_delay_s": 60,
    }


def test_a_pair_that_may_scale_to_zero_starts_with_one_replica() -> None:
    autoscaling = _btc_deployment(0, 1)["autoscaling_config"]
    assert (autoscaling["min_replicas"], autoscaling["initial_replicas"]) == (0, 1)
    assert autoscaling["metrics_interval_s"] < autoscaling["look_back_period_s"] <= 1, "or its first call waits"


def test_a_fixed_number_of_replicas_needs_no_autoscaling() -> None:
    deployment = _btc_deployment(2, 2)
    assert deployment["num_replicas"] == 2
    assert "autoscaling_config" not in deployment


def test_the_gateway_scales_between_the_numbers_that_are_set() -> None:
    settings = SETTINGS.model_copy(update={"gateway_replicas": "1-4"})
    (deployment,) = desired_config(settings, [], {})["applications"][0]["deployments"]
    assert deployment["autoscaling_config"] == {
        "min_replicas": 1,
        "max_replicas": 4,
        "target_ongoing_requests": 7,
        "upscale_delay_s": 0,
        "downscale_delay_s": 60,
    }
    (single,) = desired_config(SETTINGS, [], {})["applications"][0]["deployments"]
    assert single["num_replicas"] == 1


def test_the_api_listens_at_the_configured_address() -> None:
    options = desired_config(SETTINGS, [], {})["http_options"]
    assert (options["host"], options["port"]) == ("127.0.0.1", 28123)
    elsewhere = Settings(api_url="http://serving:8000")
    assert desired_config(elsewhere, [], {})["http_options"]["host"] == "0.0.0.0"


def test_each_process_reserves_a_share_of_a_cpu_so_that_load_adds_nodes() -> None:
    listed = [_tracked("btc_usdt"), _tracked("eth_usdt", "pooled")]
    models = {name: _version(name, 1) for name in ("btc_usdt_1h", "eth_usdt_1h")}
    claims = {
        name: application["deployments"][0]["ray_actor_options"]["num_cpus"]
        for name, application in _applications(listed, models).items()
    }
    assert claims == {GATEWAY: 0.1, POOL: 0.1, "btc_usdt_1h": 0.1}
