"""The API does what its OpenAPI document says, whatever it is sent: schemathesis with all its checks."""

from __future__ import annotations

import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn

from make_us_rich.accounts import Accounts
from make_us_rich.migrations import migrate
from make_us_rich.settings import Settings
from serve_app.gateway import make_app
from serve_app.last_good import LastGood
from tests.support.forecasts import a_forecast
from tests.support.local_directory import LocalDirectory
from tests.support.processes import free_port
from tests.support.servers import BIN, exchange_server, postgres_server

TOKEN = "mur_an-admin-token-for-tests"
PAIRS = ("btc_usdt", "eth_usdt")


@pytest.fixture(scope="module")
def api_url() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="mur-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with postgres_server(folder) as database_url, exchange_server(folder) as exchange_url:
            migrate(database_url)
            settings = Settings(
                pairs=PAIRS,
                market="simulated",
                exchange_url=exchange_url,
                database_url=database_url,
                cache_folder=str(folder / "cache"),
            )
            for pair in PAIRS:
                kept = a_forecast(pair, as_of_ms=time.time_ns() // 1_000_000)
                LastGood(folder / "cache", kept.pair, "1h", "simulated").save(kept)
            accounts = Accounts(database_url)
            accounts.ensure_service_token(TOKEN)
            served = {pair: {"name": f"{pair}_1h", "version": 1, "run_id": "run-1"} for pair in PAIRS}
            app = make_app(settings, LocalDirectory(settings, served), accounts)
            server = uvicorn.Server(uvicorn.Config(app, port=free_port(), log_level="warning"))
            thread = threading.Thread(target=server.run)
            thread.start()
            url = f"http://127.0.0.1:{server.config.port}"
            while not server.started:
                time.sleep(0.05)
            httpx.get(f"{url}/readyz", timeout=60).raise_for_status()
            yield url
            server.should_exit = True
            thread.join()


# What a schema cannot say: candles that fit each other and the model, and a pair named in one of two ways.
CONFIG = """
[[operations]]
include-name = "POST /v1/forecasts/{pair}"
[operations.checks]
positive_data_acceptance.enabled = false

[[operations]]
include-name = "PUT /predict"
[operations.checks]
positive_data_acceptance.enabled = false
"""


def test_every_answer_is_a_documented_one(api_url: str, tmp_path: Path) -> None:
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    command = [str(BIN / "schemathesis"), "run", f"{api_url}/openapi.json"]
    command += ["--header", f"Authorization: Bearer {TOKEN}", "--max-examples", "50", "--seed", "1"]
    command += ["--exclude-path", "/update_models"]  # asks Ray's cluster; see test_serving.py
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-6000:]
