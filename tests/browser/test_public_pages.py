"""The landing page and the track record in a real browser, on a monitor and on a phone, light and dark."""

from __future__ import annotations

import csv
import gzip
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN
from make_us_rich.database import outcomes
from make_us_rich.database.pool import Database
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.market.object_store import ObjectStore
from make_us_rich.record import forecast_log
from tests.support.browser import ARTIFACTS, PASSWORD, PHONE, axe_violations, horizontal_overflow_px
from tests.support.dashboard_servers import DashboardServers, dashboard_servers
from tests.support.processes import PROJECT_ROOT
from tests.support.servers import S3_KEYS, s3_server
from tests.support.track_record import record_live_weeks

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def dashboard(folder: Path) -> Iterator[DashboardServers]:
    """A dashboard whose service is down, with the record of 40 days of BTC."""
    environment = {"MUR_MARKET": "binance", "MUR_PAIRS": "btc_usdt,eth_usdt"}
    with dashboard_servers(folder, environment=environment) as servers, s3_server() as s3:
        objects = ObjectStore(s3, *S3_KEYS, "public-pages")
        objects.ensure_bucket()
        now_ms = time.time_ns() // 1_000_000
        with Database(servers.settings.database_url.get_secret_value()) as database:
            record_live_weeks(database, CandleStore(objects), BITCOIN, now_ms - now_ms % HOUR_MS, hours=24 * 40)
            assert len(forecast_log.publish(database, "binance", datetime.now(UTC).date())) == 40
        yield servers


@pytest.mark.parametrize("width", [1440, 390])
def test_the_pages_fit_and_everyone_can_read_them(browser: Browser, dashboard: DashboardServers, width: int) -> None:
    with browser.new_context(viewport={"width": width, "height": 900}) as context:
        page = context.new_page()
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text))
        for name, path in (
            ("landing", "/"),
            ("record", "/track-record?horizon=8"),
            ("empty", "/track-record?pair=eth_usdt"),
            ("frame", "/embed/btc_usdt"),
        ):
            page.goto(dashboard.url + path)
            expect(page.locator("h1")).to_be_visible()
            page.screenshot(path=ARTIFACTS / f"public-{name}-{width}.png", full_page=True)
            assert axe_violations(page) == [], path
            assert horizontal_overflow_px(page) <= 0, path
        assert problems == []


def test_a_visitor_finds_the_record_and_an_account(page: Page, dashboard: DashboardServers) -> None:
    page.set_viewport_size(PHONE)
    page.goto(dashboard.url)
    expect(page).to_have_title("Make Us Rich: price forecasts you can check")
    expect(page.get_by_role("img", name="BTC / USDT: last close").locator("visible=true")).to_be_visible()
    page.get_by_role("link", name="See the whole track record").click()
    expect(page.get_by_role("heading", name="BTC / USDT, 1 h ahead")).to_be_visible()

    page.get_by_label("Ahead").select_option("24 h")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("heading", name="BTC / USDT, 24 h ahead")).to_be_visible()
    expect(page).to_have_title("BTC / USDT, 24 h ahead: track record · Make Us Rich")
    page.get_by_text("The weeks as a table").click()
    expect(page.get_by_role("columnheader", name="Week from")).to_be_visible()
    page.get_by_label("Pair").select_option("ETH / USDT")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("Nothing is scored yet for this pair and horizon.")).to_be_visible()

    dashboard.accounts.users.create("visitor", PASSWORD)
    page.get_by_role("link", name="Make Us Rich").click()
    page.get_by_label("Name").fill("visitor")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_text("Log out").first).to_be_attached()
    page.set_viewport_size({"width": 1440, "height": 900})
    page.get_by_role("link", name="Track record").locator("visible=true").click()
    expect(page.get_by_role("heading", name="Track record", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="Forecasts")).to_be_visible()
    expect(page.get_by_role("link", name="Log in")).to_have_count(0)


@pytest.mark.parametrize(("width", "shown"), [(1440, 168), (390, 48)])
def test_the_newest_closes_are_drawn_with_their_bands(
    page: Page, dashboard: DashboardServers, width: int, shown: int
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{dashboard.url}/track-record?horizon=4")
    picture = page.get_by_role("img", name=f"The last {shown} closes").locator("visible=true")
    inside, outside = map(int, re.findall(r"(\d+) (?:in|out)side", str(picture.get_attribute("aria-label"))))
    with Database(dashboard.settings.database_url.get_secret_value()) as database:
        found = outcomes.scored(database, market="binance", pair=BITCOIN, interval=Interval.H1, horizon=4)
    hits = (found.close >= found.quantiles[:, 1]) & (found.close <= found.quantiles[:, 5])
    assert (inside, outside) == (hits[-shown:].sum(), shown - hits[-shown:].sum())
    drawn = {
        name: str(picture.locator(f".{name}").get_attribute("d")).count("M") for name in ("band", "inside", "missed")
    }
    assert drawn == {"band": shown, "inside": inside, "missed": outside}
    texts = picture.locator("text").evaluate_all("all => all.map((each) => each.getBoundingClientRect())")
    boxes = sorted((text["y"], text["x"], text["right"]) for text in texts)
    assert all(x >= right for (y, _, right), (other, x, _) in pairwise(boxes) if abs(y - other) < 2), "texts overlap"
    assert min(text["height"] for text in texts) >= 10


def _script() -> str:
    page = (PROJECT_ROOT / "docs" / "explanation" / "track-record.md").read_text()
    (script,) = re.findall(r"```python\n(.*?)```", page, flags=re.S)
    return script


def _run_here(*arguments: str) -> None:
    """Run the script in this process, which has imported pandas."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["-c", *arguments])
        exec(compile(_script(), "track-record.md", "exec"), {})


def test_the_script_of_the_documentation_recomputes_hashes_and_coverage(dashboard: DashboardServers) -> None:
    command = [sys.executable, "-c", _script(), dashboard.url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {int(row["horizon"]): row for row in csv.DictReader(done.stdout.splitlines())}
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0).timestamp() * 1000
    url = dashboard.settings.database_url.get_secret_value()
    assert "the log since its first day" in done.stderr
    with Database(url) as database:
        for horizon in (1, 4, 24):
            scored = outcomes.scored(database, market="binance", pair=BITCOIN, interval=Interval.H1, horizon=horizon)
            logged = scored.target_close_ms < midnight
            inside = (scored.close >= scored.quantiles[:, 1]) & (scored.close <= scored.quantiles[:, 5])
            assert int(found[horizon]["count"]) == logged.sum()
            assert float(found[horizon]["mean"]) == pytest.approx(inside[logged].mean(), abs=1e-9)


def _copied_log(dashboard: DashboardServers, folder: Path) -> tuple[Path, list[str]]:
    """Save the published log as files; return their folder and the days."""
    log = folder / "track-record" / "log"
    log.mkdir(parents=True)
    (log / "index.csv").write_bytes(httpx.get(f"{dashboard.url}/track-record/log/index.csv").raise_for_status().content)
    with Database(dashboard.settings.database_url.get_secret_value()) as database, database.transaction() as cursor:
        cursor.execute("SELECT day::text, csv, parquet FROM forecast_logs ORDER BY day")
        rows = cursor.fetchall()
    for day, zipped, parquet in rows:
        (log / f"{day}.csv").write_bytes(gzip.decompress(zipped))
        (log / f"{day}.parquet").write_bytes(parquet)
    return log, [day for day, _, _ in rows]


def test_the_script_of_the_documentation_sees_replaced_and_dropped_files(
    dashboard: DashboardServers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, days = _copied_log(dashboard, tmp_path)
    index = (log / "index.csv").read_text()
    handler = partial(QuietFiles, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, ThreadPoolExecutor(1) as pool:
        pool.submit(server.serve_forever, 0.02)
        url = f"http://127.0.0.1:{server.server_port}"
        _run_here(url)
        chain = capsys.readouterr().err.split()[-1]
        for kind in ("csv", "parquet"):
            published = (log / f"{days[5]}.{kind}").read_bytes()
            (log / f"{days[5]}.{kind}").write_bytes((log / f"{days[6]}.{kind}").read_bytes())
            with pytest.raises(AssertionError, match=f"{days[5]} is not what was published"):
                _run_here(url)
            (log / f"{days[5]}.{kind}").write_bytes(published)
        header, _, *rest = index.splitlines(keepends=True)
        (log / "index.csv").write_text("".join([header, *rest]))
        _run_here(url, chain)
        assert "the days before it are not published any more" in capsys.readouterr().err
        (log / "index.csv").write_text("".join(index.splitlines(keepends=True)[:-3]))
        with pytest.raises(AssertionError, match="the chain that you kept is gone"):
            _run_here(url, chain)
        server.shutdown()


class QuietFiles(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass
