"""The servers that the tests of a process share: each test gets one that holds nothing and that nobody else uses."""

from __future__ import annotations

import httpx
import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from make_us_rich.core.pair import BITCOIN
from make_us_rich.market.exchange import ExchangeClient
from make_us_rich.market.object_store import ObjectStore
from tests.support.servers import MLFLOW_LOGIN, S3_KEYS, exchange_server, mlflow_server, s3_server


def test_mlflow_holds_nothing_of_the_test_before() -> None:
    with mlflow_server() as url:
        mlflow.set_tracking_uri(url)
        mlflow.set_experiment("of the test before")
        with mlflow.start_run() as run:
            mlflow.log_text("a text", "a.txt")
        MlflowClient().create_registered_model("btc_usdt_1h")
        assert MlflowClient().list_artifacts(run.info.run_id) != []
    with mlflow_server() as again:
        assert again == url
        client = MlflowClient(again)
        assert [experiment.name for experiment in client.search_experiments()] == ["Default"]
        assert client.search_registered_models() == []
        assert client.search_runs(["0", "1"]) == []
        with pytest.raises(MlflowException, match="not found"):
            client.get_run(run.info.run_id)
        artifact = f"{again}/api/2.0/mlflow-artifacts/artifacts/{run.info.experiment_id}/{run.info.run_id}/artifacts"
        assert httpx.get(f"{artifact}/a.txt", auth=MLFLOW_LOGIN).status_code == 404
        assert client.create_run("0").info.experiment_id == "0"


def test_s3_holds_nothing_of_the_test_before() -> None:
    with s3_server() as url:
        store = ObjectStore(url, *S3_KEYS, "candles")
        store.ensure_bucket()
        store.put("a/b", b"a text")
    with s3_server() as again:
        assert again == url
        store = ObjectStore(again, *S3_KEYS, "candles")
        store.ensure_bucket()
        assert store.list_keys("") == []
        assert store.get("a/b") is None
        store.put("a/b", b"another text")
        assert store.list_keys("") == ["a/b"]


def test_a_server_in_use_is_neither_given_nor_emptied() -> None:
    with s3_server() as first:
        store = ObjectStore(first, *S3_KEYS, "candles")
        store.ensure_bucket()
        store.put("a/b", b"a text")
        with s3_server() as second:
            assert second != first
            ObjectStore(second, *S3_KEYS, "candles").ensure_bucket()
            assert store.list_keys("") == ["a/b"]


def test_each_exchange_has_its_own_faults_clock_and_usage_and_all_have_the_same_prices() -> None:
    with exchange_server() as one, exchange_server() as other:
        httpx.post(f"{one}/_control/faults", json={"kind": "500"}).raise_for_status()
        httpx.post(f"{one}/_control/clock", json={"offset_ms": 86_400_000}).raise_for_status()

        assert httpx.get(f"{other}/_control/faults").json() == []
        ahead_ms = [httpx.get(f"{url}/_control/clock").json()["now_ms"] for url in (one, other)]
        assert ahead_ms[0] - ahead_ms[1] > 80_000_000
        assert httpx.get(f"{one}/api/v3/ping").status_code == 500
        assert httpx.get(f"{other}/api/v3/ping").status_code == 200
        assert [httpx.get(f"{url}/_control/usage").json()["requests"] for url in (one, other)] == [0, 1]

        httpx.delete(f"{one}/_control/faults")
        start_ms = 1_730_000_000_000 // 3_600_000 * 3_600_000
        asked = {"symbol": BITCOIN.symbol, "interval": "1h", "startTime": start_ms, "limit": 3}
        rows = [httpx.get(f"{url}/api/v3/klines", params=asked).json() for url in (one, other)]
        assert rows[0] == rows[1] != []
        assert ExchangeClient(one).server_time_ms() > ExchangeClient(other).server_time_ms()
