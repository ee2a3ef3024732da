"""The pages that need no log-in, on a real Postgres: what they show, what they hide, and that they write nothing."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from flask.testing import FlaskClient
from PIL import Image
from psycopg2 import errors as pg_errors

from dash_app import records
from dash_app.app import create_app
from dash_app.components.formatting import utc_time
from dash_app.public import request_limit
from make_us_rich.accounts import Accounts
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN, Pair
from make_us_rich.core.settings import Settings
from make_us_rich.database import forecast_logs, forecasts, outcomes
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database import pool as connections
from make_us_rich.database.pool import Database
from make_us_rich.documents import HORIZON_GRID, Quantiles
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.market.object_store import ObjectStore
from make_us_rich.operations.housekeeping import delete_rows
from make_us_rich.record import forecast_log
from tests.support.dashboard_client import DashboardClient
from tests.support.servers import S3_KEYS, migrated_database, s3_server
from tests.support.tcp_proxy import tcp_proxy
from tests.support.track_record import record_live_weeks

PASSWORD = "correct horse battery"
HOURS = 24 * 16
PUBLIC = ("/", "/track-record", "/track-record?pair=btc_usdt&interval=1h&horizon=24", "/track-record?pair=eth_usdt")
PRIVATE = ("/overview", "/models", "/api-tokens", "/admin", "/account", "/track-records", "/_dash-layout")


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    """A database with sixteen days of scored forecasts of BTC, and none of ETH."""
    with migrated_database() as url, Database(url) as opened, s3_server() as s3:
        objects = ObjectStore(s3, *S3_KEYS, "public-pages")
        objects.ensure_bucket()
        pairs_table.seed(opened, (BITCOIN, Pair("eth", "usdt")), ())
        with Accounts(Database(url)) as accounts:
            accounts.users.create("gertrude", PASSWORD)
        now_ms = time.time_ns() // 1_000_000
        record_live_weeks(opened, CandleStore(objects), BITCOIN, now_ms - now_ms % HOUR_MS, hours=HOURS)
        yield opened


def test_a_stranger_sees_the_record_and_nothing_else_and_writes_nothing(database: Database) -> None:
    client = _client(database)
    stranger = DashboardClient(client)
    before = _writes(database)

    pages = {path: stranger.get(path) for path in PUBLIC}
    for path, page in pages.items():
        assert page.status_code == 200, path
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "<script" not in page.text
        assert 'property="og:title"' in page.text
        assert "gertrude" not in page.text
    landing, record = pages["/"].text, pages[PUBLIC[2]].text
    assert f"{HOURS:,}</dd>" in landing
    assert 'name="password"' in landing
    assert "BTC / USDT, 24 h ahead" in record
    assert f"{HOURS - 23:,} forecasts, recorded since" in record
    assert "against GARCH" in record
    assert "Nothing is scored yet" in pages[PUBLIC[3]].text

    for path in PRIVATE:
        assert stranger.get(path).status_code in (302, 401), path
    for path in ("/track-record", "/"):
        assert stranger.client.post(path).status_code in (400, 401, 405)
    for query in (
        "pair=xrp_usdt",
        "pair=..",
        "horizon=5",
        "horizon=x",
        "horizon=²",
        "horizon=2_4",
        "horizon=%201",
        "horizon=%2B1",
        "interval=4h",
        "interval=x",
    ):
        assert stranger.get(f"/track-record?{query}").status_code == 404, query
    assert _writes(database) == before


def test_a_pair_has_a_picture_and_a_frame_to_share(database: Database) -> None:
    stranger = DashboardClient(_client(database))
    before = _writes(database)
    picture = stranger.get("/share/btc_usdt.png")
    assert picture.mimetype == "image/png"
    with Image.open(io.BytesIO(picture.data)) as drawn:
        assert drawn.size == (1200, 630)
        assert len(drawn.getcolors(1 << 20)) > 50, "it shows something"
    for path in ("/", "/track-record"):
        page = stranger.get(path).text
        assert '<meta property="og:image" content="https://forecasts.example/share/btc_usdt.png">' in page
        assert '<meta name="twitter:card" content="summary_large_image">' in page
    frame = stranger.get("/embed/btc_usdt")
    assert "frame-ancestors *" in frame.headers["Content-Security-Policy"]
    assert "https://forecasts.example/track-record?pair=btc_usdt" in frame.text
    assert "80 % chance of" in frame.text
    for path in (
        "/share/eth_usdt.png",
        "/share/x.png",
        "/share/btc_usdt.svg",
        "/embed/xrp_usdt",
        "/embed/%00",
        "/share",
    ):
        assert stranger.get(path).status_code == 404, path
    assert _writes(database) == before


def test_visitors_are_answered_from_memory_and_no_more_often_than_is_fair(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = DashboardClient(_client(database), "198.51.100.7")
    first = [stranger.get(path).text for path in PUBLIC[1:3]]
    with database.transaction() as cursor:
        cursor.execute("ALTER TABLE outcomes RENAME TO hidden")
    try:
        assert [stranger.get(path).text for path in PUBLIC[1:3]] == first
    finally:
        with database.transaction() as cursor:
            cursor.execute("ALTER TABLE hidden RENAME TO outcomes")

    monkeypatch.setattr(request_limit, "REQUESTS_PER_MINUTE", 5)  # twelve exceed it in one of two minutes
    assert 429 in [stranger.get("/track-record").status_code for _ in range(12)]
    assert DashboardClient(stranger.client, "198.51.100.8").get("/track-record").status_code == 200


def test_what_is_known_is_shown_while_postgres_is_away(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_LIVE_S", "_LISTS_S", "_RECORD_S"):
        monkeypatch.setattr(records, name, 0.0)  # nothing is kept for its own sake
    with tcp_proxy(database._url) as (network, through):
        stranger = DashboardClient(_client(database, database_url=through))
        first = [stranger.get(path).text for path in PUBLIC[:2]]
        assert "BTC / USDT, 1 h ahead" in first[1]
        for limit in ("CONNECT_TIMEOUT_S", "TIMEOUT_S", "_IDLE_WAIT_S"):
            monkeypatch.setattr(connections, limit, 0.5)
        network.stop_answering()
        for path, text in zip(PUBLIC[:2], first, strict=True):
            answer = stranger.get(path)
            assert answer.status_code == 200
            assert _without_token(answer.text) == _without_token(text)
        assert stranger.get(PUBLIC[2]).status_code == 503  # never read before


def test_the_setting_hides_the_pages_from_strangers_and_not_from_members(database: Database) -> None:
    stranger, member = (DashboardClient(_client(database, public_pages=False)) for _ in range(2))
    for path in (*PUBLIC, "/share/btc_usdt.png", "/embed/btc_usdt", "/track-record/log/index.csv"):
        answer = stranger.get(path)
        assert answer.status_code == 302, path
        assert answer.headers["Location"].startswith("/login?next=/")

    member.log_in("gertrude", PASSWORD)
    page = member.get("/track-record").text
    assert "BTC / USDT, 1 h ahead" in page
    assert "Create account" not in page
    assert "og:title" not in member.get("/").text, "a member sees the forecasts"


def test_the_record_lists_its_models_and_counts_those_of_long_ago(database: Database) -> None:
    """Of 25 models that forecast in turn, the one before the last being the foundation."""
    with database.transaction() as cursor:
        cursor.execute(
            "UPDATE forecasts SET model_version = 100 + place, foundation = place = 23 FROM (SELECT forecast_id, "
            "ntile(25) OVER (ORDER BY target_open_ms) - 1 AS place FROM forecasts) AS ordered "
            "WHERE forecasts.forecast_id = ordered.forecast_id"
        )
    page = DashboardClient(_client(database)).get("/track-record").text
    (table,) = re.findall(r'aria-label="The models">(.*?)</table>', page, flags=re.S)
    rows = [re.findall(r"<td>(.*?)</td>", row) for row in table.split("<tr>")[2:]]
    names = [f"btc_usdt_1h, version {version}" for version in range(124, 104, -1)]
    names[1] = "Foundation, version 123"
    assert [row[0] for row in rows] == names
    scored = outcomes.scored(database, market="binance", pair=BITCOIN, interval=Interval.H1, horizon=1)
    for row, version in zip(rows, range(124, 104, -1), strict=True):
        closes = scored.target_close_ms[scored.version == version]
        assert row[1:] == [str(len(closes)), utc_time(int(closes[0])), utc_time(int(closes[-1]))]
    more = (scored.version < 105).sum()
    assert f"5 earlier model versions made {more} more forecasts." in page


def test_one_logs_in_from_the_landing_page(database: Database) -> None:
    visitor = DashboardClient(_client(database))
    answer = visitor.post_form("/?pair=eth_usdt", "/login?next=/?pair=eth_usdt", name="gertrude", password=PASSWORD)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/?pair=eth_usdt")
    assert visitor.is_logged_in()


def test_an_empty_installation_says_when_the_first_score_comes() -> None:
    with migrated_database() as url, Database(url) as database:
        stranger = DashboardClient(_client(database))
        assert "No pair has a forecast yet" in stranger.get("/").text
        assert "No forecast was recorded in the last days" in stranger.get("/track-record").text


def test_a_replaced_forecast_is_shown_as_members_see_it_with_the_one_that_counts() -> None:
    as_of_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000)
    series: dict[str, Any] = {"market": "binance", "pair": BITCOIN, "interval": Interval.H1, "last_close": 100.0}
    closes = [Quantiles.of([97.0, 98.0, 99.0, 100.0, 101.0, 102.0, 103.0])]
    with migrated_database() as url, Database(url) as database:
        pairs_table.seed(database, (BITCOIN,), ())
        client = DashboardClient(_client(database))
        for version, times in ((1, 1.0), (2, 2.0)):
            widened = [Quantiles.of(times * price for price in each.prices()) for each in closes]
            forecasts.record(database, widened, as_of_ms=as_of_ms, version=version, **series)
            if version == 1:
                assert "has replaced" not in DashboardClient(_client(database)).get("/embed/btc_usdt").text
        for path in ("/", "/track-record", "/embed/btc_usdt"):
            page = client.get(path).text
            assert "80 % chance of 196.000 to 204.000 in 1 h" in page, path
            counted = "Another model has replaced the first one since. The track record counts the first one's forecast"
            assert f"{counted}: 80 % chance of 98.0000 to 102.000 in 1 h." in page, path


def _client(database: Database, **settings: object) -> FlaskClient:
    given = {"pairs": "btc_usdt,eth_usdt", "dashboard_url": "https://forecasts.example/", **settings}
    made = Settings(**{"database_url": database._url, "secret_key": "public-pages"} | given)
    return create_app(made).server.test_client()


def _without_token(page: str) -> str:
    return re.sub(r'name="csrf_token"[^>]*', "", page)


def _writes(database: Database) -> list[tuple[str, int]]:
    """Return how many rows each table has, and the newest of them were written when."""
    with database.transaction() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace")
        names = sorted(name for (name,) in cursor.fetchall())
        counts = []
        for name in names:
            cursor.execute(f"SELECT count(*), coalesce(max(xmin::text::bigint), 0) FROM {name}")
            counts.append((name, *cursor.fetchone()))
    return counts


def test_a_day_is_published_once_and_a_later_one_continues_the_chain(database: Database) -> None:
    today = datetime.now(UTC).date()
    stranger = DashboardClient(_client(database))
    assert "The first log is published at 00:10 UTC" in stranger.get("/track-record").text
    early = forecast_log.publish(database, "binance", today - timedelta(days=3))
    late = forecast_log.publish(database, "binance", today)
    assert forecast_log.publish(database, "binance", today) == []
    days = early + late
    assert [day.day for day in days] == [days[0].day + timedelta(days=index) for index in range(len(days))]
    assert days[-1].day == today - timedelta(days=1)
    assert [day.previous for day in days] == ["", *(day.chain for day in days[:-1])]
    assert late[0].forecasts == 24
    with pytest.raises(pg_errors.UniqueViolation):
        forecast_logs.append(database, "binance", today - timedelta(days=1), forecasts=0, csv=b"", parquet=b"")

    stranger = DashboardClient(_client(database))
    index = list(csv.DictReader(stranger.get("/track-record/log/index.csv").text.splitlines()))
    assert [row["chain"] for row in index] == [day.chain for day in days]
    for kind, read in (("csv", pd.read_csv), ("parquet", pd.read_parquet)):
        content = stranger.get(f"/track-record/log/{late[0].day}.{kind}").data
        assert hashlib.sha256(content).hexdigest() == index[len(early)][f"{kind}_sha256"]
        table = read(io.BytesIO(content))
        assert list(table.columns) == list(forecast_log.COLUMNS)
        assert len(table) == 24 * len(HORIZON_GRID)
        assert table.recorded_at.str.startswith(str(late[0].day)).all()
    for name in (f"{today}.csv", f"{days[0].day}.exe", "x.csv", "..%2f.csv", "2026-13-01.csv"):
        assert stranger.get(f"/track-record/log/{name}").status_code == 404, name
    assert days[-1].chain in stranger.get("/track-record").text
    before = datetime.now(UTC) - timedelta(days=4)
    assert delete_rows(database, "forecast_logs", before, dry_run=False) == len(early)
    assert forecast_logs.published(database, "binance")[-1].previous == early[-1].chain
