"""What a run refuses, and who hears of it: real DAG runs over Postgres, S3, the replay exchange and a Discord sink."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from make_us_rich import roster
from make_us_rich.market.bucket import Bucket
from make_us_rich.migrations import migrate
from tests.support.airflow_runs import AirflowHome
from tests.support.servers import S3_KEYS, discord_server, exchange_server, postgres_server, s3_server

pytestmark = pytest.mark.timeout(240)


@dataclass(frozen=True)
class World:
    airflow: AirflowHome
    database_url: str
    exchange_url: str
    discord_url: str

    def embeds(self) -> list[dict[str, Any]]:
        """Every embed that was posted, oldest first."""
        messages = httpx.get(f"{self.discord_url}/_control/messages").json()
        return [embed for message in messages for embed in message["embeds"]]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    folder = Path(tempfile.mkdtemp(prefix="mur-dags-"))
    folder.chmod(0o755)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        database_url = stack.enter_context(postgres_server(folder))
        exchange_url = stack.enter_context(exchange_server(folder))
        discord_url = stack.enter_context(discord_server(folder))
        s3_url = stack.enter_context(s3_server(folder))
        migrate(database_url)
        Bucket(s3_url, *S3_KEYS, "candles").ensure_bucket()
        settings = {
            "MUR_DATABASE_URL": database_url,
            "MUR_EXCHANGE_URL": exchange_url,
            "MUR_MARKET": "simulated",
            "MUR_DISCORD_WEBHOOK_URL": f"{discord_url}/api/webhooks/1/local",
            "MUR_S3_ENDPOINT_URL": s3_url,
            "MUR_S3_ACCESS_KEY": S3_KEYS[0],
            "MUR_S3_SECRET_KEY": S3_KEYS[1],
            "MUR_HISTORY_CANDLES": "1500",
        }
        yield World(AirflowHome(folder / "airflow", settings), database_url, exchange_url, discord_url)


@pytest.fixture(autouse=True)
def three_active_pairs(world: World) -> Iterator[None]:
    for pair in ("btc_usdt", "eth_usdt", "chz_usdt"):
        roster.put(world.database_url, pair, plan="dedicated")
        roster.unpark(world.database_url, pair)
    yield
    httpx.delete(f"{world.exchange_url}/_control/faults").raise_for_status()


def test_what_cannot_be_trained_is_refused_with_its_reason_in_discord(world: World) -> None:
    roster.put(world.database_url, "eth_usdt", plan="off")
    before = len(world.embeds())
    refused = {
        "parameter pairs: doge_usdt is not listed: choose from btc_usdt, chz_usdt": {"pairs": ["doge_usdt"]},
        "parameter pairs: eth_usdt is off: make it active first": {"pairs": ["eth_usdt"]},
        "parameter pair: 'BTCUSDT' is not a pair": {"pairs": ["BTCUSDT"]},
        "parameter interval: unknown interval '7m': use one of 5m": {"interval": "7m"},
        "parameter as_of: 2199-01-01T00:00:00+00:00 is in the future": {"as_of": "2199-01-01T00:00:00+00:00"},
    }

    runs = world.airflow.runs("train_pairs", list(refused.values()))

    embeds = world.embeds()[before:]
    assert [run.state for run in runs] == ["failed"] * len(refused)
    assert {run.tries["plan_run", ""] for run in runs} == {1}, "a refusal was tried again"
    assert {run.states["refresh_serving", ""] for run in runs} == {"skipped"}
    assert [embed["title"] for embed in embeds] == ["train_pairs: run refused"] * len(refused)
    for reason, embed in zip(refused, embeds, strict=True):
        assert reason in embed["description"]


def test_a_delisted_pair_is_parked_and_told_once(world: World) -> None:
    fault = {"kind": "unknown_symbol", "symbol": "CHZUSDT"}
    httpx.post(f"{world.exchange_url}/_control/faults", json=fault).raise_for_status()
    before = len(world.embeds())

    run = world.airflow.run("train_pairs", {"pairs": ["chz_usdt"]})

    assert run.state == "failed"
    assert run.states["fetch", "chz_usdt"] == "failed"
    assert run.states["fetch", "btc_usdt"] == "success"
    assert run.tries["fetch", "chz_usdt"] == 1, "a delisted pair was asked for again"
    (embed,) = world.embeds()[before:]
    assert "It is parked" in embed["description"]
    parked = {item.pair: item.parked_reason for item in roster.listed(world.database_url) if item.parked_at}
    assert "the exchange does not know chz_usdt" in str(parked["chz_usdt"])
    assert "chz_usdt" not in {item.pair for item in roster.active(world.database_url)}


def test_the_candles_of_no_pair_is_one_message(world: World) -> None:
    fault = {"kind": "418", "retry_after_s": 7200}
    httpx.post(f"{world.exchange_url}/_control/faults", json=fault).raise_for_status()
    before = len(world.embeds())

    run = world.airflow.run("train_pairs", {"pairs": ["eth_usdt"]})

    assert run.tries["fetch", "eth_usdt"] == 1, "a ban of two hours was waited for"
    assert run.states["refresh_serving", ""] == "skipped"
    (embed,) = world.embeds()[before:]
    assert "eth_usdt" in embed["title"]
    assert "the exchange limits our requests (418) for 7200 s" in embed["description"]
