from __future__ import annotations

from make_us_rich.registry import ModelVersion
from make_us_rich.settings import Settings
from serve_app.deploy import GATEWAY, POOL, desired_config


def _version(name: str, version: int) -> ModelVersion:
    return ModelVersion(name, version, run_id=f"run-{version}", created_ms=0, tags={})


def _applications(config: dict[str, object]) -> dict[str, dict[str, object]]:
    return {application["name"]: application for application in config["applications"]}


SETTINGS = Settings(pairs=("btc_usdt", "eth_usdt"), api_url="http://127.0.0.1:28123")


def test_every_pair_with_a_champion_is_an_application_of_its_own() -> None:
    config = desired_config(SETTINGS, {"btc_usdt": _version("btc_usdt_1h", 4)})
    assert set(_applications(config)) == {GATEWAY, "btc_usdt_1h"}
    assert _applications(config)["btc_usdt_1h"]["route_prefix"] is None


def test_pooled_pairs_share_one_application() -> None:
    settings = Settings(pairs=("btc_usdt", "eth_usdt", "chz_usdt"), pooled_pairs=("eth_usdt", "chz_usdt"))
    versions = {pair: _version(f"{pair}_1h", 2) for pair in ("btc_usdt", "eth_usdt")}
    applications = _applications(desired_config(settings, versions))
    assert set(applications) == {GATEWAY, POOL, "btc_usdt_1h"}
    assert applications[POOL]["deployments"][0]["user_config"] == {
        "eth_usdt": {"version": 2, "run_id": "run-2"}
    }


def test_a_new_champion_changes_user_config_and_nothing_else() -> None:
    before, after = (
        _applications(desired_config(SETTINGS, {"btc_usdt": _version("btc_usdt_1h", version)}))
        for version in (4, 5)
    )
    assert before[GATEWAY] == after[GATEWAY]
    old, new = before["btc_usdt_1h"]["deployments"][0], after["btc_usdt_1h"]["deployments"][0]
    assert new.pop("user_config") == {"version": 5, "run_id": "run-5"}
    assert old.pop("user_config") == {"version": 4, "run_id": "run-4"}
    assert before == after


def test_the_api_listens_where_its_callers_are_told() -> None:
    assert desired_config(SETTINGS, {})["http_options"]["port"] == 28123
    assert desired_config(SETTINGS, {})["http_options"]["host"] == "127.0.0.1"
    elsewhere = Settings(api_url="http://serving:8000")
    assert desired_config(elsewhere, {})["http_options"]["host"] == "0.0.0.0"
