"""The guides of docs/how-to/extend.md: their code is applied to a copy of the project and does what they say."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from textwrap import dedent
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.support.processes import PROJECT_ROOT

PAGE = PROJECT_ROOT / "docs" / "how-to" / "extend.md"
_BLOCK = re.compile(r'^( *)```(python|diff) title="([^"]+)"\n(.*?)^\1```$', flags=re.S | re.M)


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the packages to which every block of the page was applied."""
    copy = tmp_path_factory.mktemp("extended")
    without_caches = shutil.ignore_patterns("__pycache__", "node_modules", "*.parquet", "static")
    for name in ("make_us_rich", "dash_app", "infra", "sql", "docs", "tests/support", "tests/unit/forecasting"):
        shutil.copytree(PROJECT_ROOT / name, copy / name, ignore=without_caches)
    shutil.copy(PROJECT_ROOT / "README.md", copy)
    blocks = [(kind, name, dedent(text)) for _, kind, name, text in _BLOCK.findall(PAGE.read_text())]
    assert len(blocks) == PAGE.read_text().count("```") // 2, "every block names its file"
    for kind, name, text in blocks:
        file = copy / name
        if kind == "diff":
            file.write_text(_patched(file.read_text(), text.splitlines()))
        else:
            file.write_text(f"{file.read_text()}\n\n{text}" if file.exists() else text)
    return copy


def _patched(source: str, lines: list[str]) -> str:
    """Replace each group of removed lines, which must be there once, by the added lines that follow."""
    for removed, added in re.findall(r"((?:^-.*\n)+)((?:^\+.*\n)+)", "\n".join(lines) + "\n", flags=re.M):
        before, after = (re.sub("^.", "", text, flags=re.M) for text in (removed, added))
        assert len(re.findall(f"^{re.escape(before)}", source, flags=re.M)) == 1, before
        source = re.sub(f"^{re.escape(before)}", lambda _, after=after: after, source, flags=re.M)
    return source


def _run(copy: Path, code: str, **environment: str) -> Any:
    """Run code in the copy; returns the JSON of its last line."""
    known = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=copy, env=known, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_page_does_not_change_the_project_itself(extended: Path) -> None:
    changed = {name for _, _, name, _ in _BLOCK.findall(PAGE.read_text())}
    assert len(changed) >= 5
    assert all((extended / name).read_bytes() != (PROJECT_ROOT / name).read_bytes() for name in changed - _new(changed))
    checked = subprocess.run(
        [sys.executable, "-m", "ruff", "check", f"--config={PROJECT_ROOT / 'pyproject.toml'}", *sorted(changed)],
        cwd=extended,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


def _new(names: set[str]) -> set[str]:
    return {name for name in names if not (PROJECT_ROOT / name).exists()}


_MODEL = """
import json
from dataclasses import replace
from make_us_rich.core.interval import Interval
from make_us_rich.forecasting.onnx_model import OnnxModel
from make_us_rich.forecasting.recipe import fit
from make_us_rich.forecasting.training import TrainingTask
from tests.unit.forecasting.random_candles import AS_OF_MS, BITCOIN, OWN, SMALL

config = replace(SMALL, architecture="tcn", epochs=1)
fitted = fit(OWN, BITCOIN, pair="eth_usdt", task=TrainingTask(AS_OF_MS, config))
print(json.dumps(OnnxModel.load(fitted.onnx, "eth_usdt_1h").quantiles(OWN, BITCOIN).shape))
"""


def test_the_new_model_is_trained_exported_and_accepted(extended: Path) -> None:
    assert _run(extended, _MODEL) == [24, 7]


_SETTING = """
import json
from infra.docs import generated_pages
from make_us_rich.core.settings import read_settings
(page,) = [text for path, text in generated_pages().items() if path.name == "settings.md"]
print(json.dumps([read_settings().quiet_hours, "MUR_QUIET_HOURS" in page]))
"""


def test_the_new_setting_is_read_and_documented(extended: Path) -> None:
    assert _run(extended, _SETTING, MUR_QUIET_HOURS="8") == [8, True]
    assert "quiet_hours" not in (PROJECT_ROOT / "make_us_rich" / "core" / "settings.py").read_text()


_EXCHANGE = """
import json, sys
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import Pair
from make_us_rich.market.another_exchange import AnotherExchange
from make_us_rich.market.candle_store import CandleStore

class Bucket(dict):
    def replace(self, key, content, old):
        self[key] = content
        return True
    def get(self, key):
        return None

store = CandleStore(Bucket())
update = store.update(
    AnotherExchange(sys.argv[1]), market="another", pair=Pair("btc", "usdt"), interval=Interval.H1,
    as_of_ms=500_000 * HOUR_MS, history_candles=24,
)
print(json.dumps([update.requested, update.report.kept, update.newest_close_ms // HOUR_MS]))
"""


def test_the_new_exchange_fills_the_candle_store(extended: Path) -> None:
    class Exchange(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = dict(parse_qsl(url.query))
            rows = [
                [opened, "100", "101", "99", "100.5", "7"]
                for opened in range(int(query.get("start", 0)), int(query.get("end", 0)), 3600)
            ]
            assert query.get("pair", "BTC-USDT") == "BTC-USDT"
            body = json.dumps({"/candles": rows, "/time": 500_000 * 3600, "/pairs": ["BTC-USDT"]}[url.path]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with HTTPServer(("127.0.0.1", 0), Exchange) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        code = _EXCHANGE.replace("sys.argv[1]", repr(f"http://127.0.0.1:{server.server_port}"))
        assert _run(extended, code) == [24, 24, 500_000]
        server.shutdown()


_ALERT = """
import json
from make_us_rich.core.settings import Settings
from make_us_rich.operations.alerts import Alert, post
post(Alert("train_pairs failed", "for a test"), Settings(database_url="postgresql://a:b@127.0.0.1:9/none"))
print(json.dumps("done"))
"""


def test_the_new_channel_gets_the_alert_and_its_silence_stops_nothing(extended: Path) -> None:
    bodies = []

    class Push(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Push) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        assert _run(extended, _ALERT, NTFY_URL=f"http://127.0.0.1:{server.server_port}") == "done"
        server.shutdown()
    assert bodies == [{"title": "train_pairs failed", "message": "for a test"}]
    assert _run(extended, _ALERT, NTFY_URL="http://127.0.0.1:9") == "done"


_PAGE = """
import json
from dash_app.app import _PAGES, create_app
from make_us_rich.core.settings import Settings
settings = Settings()
app = create_app(settings)
(page,) = [page for page in _PAGES if page.path == "/about"]
callbacks = [name for name in app.callback_map if name.startswith("ask-market")]
client = app.server.test_client()
print(json.dumps(["Candles of 1h." in str(page.layout(settings)), len(callbacks), client.get("/about").status_code]))
"""


def test_the_new_page_is_in_the_menu_and_behind_the_log_in(extended: Path) -> None:
    assert _run(extended, _PAGE) == [True, 1, 302]
