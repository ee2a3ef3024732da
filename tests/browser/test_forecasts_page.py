"""The forecasts page in a real browser: what it counts, which pair it shows, and what its downloads hold."""

from __future__ import annotations

import csv
import re
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Browser, Page, expect

from dash_app.components.formatting import price, utc_time
from make_us_rich.client import Client
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import Pair
from make_us_rich.database import forecasts
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from make_us_rich.documents import HORIZONS, Quantiles
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.market.object_store import ObjectStore
from tests.support.browser import ARTIFACTS, PASSWORD, PHONE, horizontal_overflow_px, log_in
from tests.support.dashboard_servers import PAST_HOURS, DashboardServers, dashboard_servers
from tests.support.servers import S3_KEYS, s3_server
from tests.support.track_record import record_live_weeks
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(300)

SLOW_MS = 30_000
PAIRS = ("btc_usdt", "chz_usdt", "eth_usdt")
BACKFILLED_HOURS = range(PAST_HOURS, PAST_HOURS + 6)
"""Hours before the last close, older than the served forecasts and within the chart."""

_PLOT = "document.querySelector('#chart .js-plotly-plot')"
_VIEW = f"() => [{_PLOT}._fullLayout.xaxis.range, {_PLOT}._fullLayout.yaxis.range]"
_SHOWN = f"() => {_PLOT}?._fullData?.find((part) => part.type === 'candlestick')?.x.length"


@pytest.fixture(scope="module")
def dashboard(folder: Path) -> Iterator[DashboardServers]:
    with dashboard_servers(folder, PAIRS) as servers:
        servers.accounts.users.create("reader", PASSWORD)
        _backfill(servers, Pair("btc", "usdt"))
        yield servers


def _backfill(dashboard: DashboardServers, pair: Pair) -> None:
    """Store forecasts as a backfill does: of older hours, and of an hour that was served too."""
    as_of_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000)
    with _client(dashboard) as client:
        last = client.forecast(pair).last_close
    band = Quantiles.of(last * (0.95 + step / 200) for step in range(7))
    with Database.from_settings(dashboard.settings) as database:
        for hour in (2, *BACKFILLED_HOURS):
            forecasts.record(
                database,
                [band],
                market=dashboard.settings.market,
                pair=pair,
                interval=Interval.H1,
                as_of_ms=as_of_ms - hour * HOUR_MS,
                version=7,
                last_close=last,
                backfilled=True,
            )


def _client(dashboard: DashboardServers) -> Client:
    return Client(dashboard.settings.api_url, dashboard.settings.dashboard_token.get_secret_value())


def _open(page: Page, dashboard: DashboardServers, query: str = "?pair=btc_usdt") -> None:
    log_in(page, dashboard.url, "reader", f"/{query}")
    expect(page.locator("#chart .legendtext").first).to_be_visible(timeout=SLOW_MS)
    expect(page.locator("#reading")).to_contain_text("with 80 % probability", timeout=SLOW_MS)


def test_price_and_countdown_backfill_and_downloads(page: Page, dashboard: DashboardServers) -> None:
    """One visit of the page, because a page takes seconds of CPU to start."""
    _open(page, dashboard)
    _expect_price_and_countdown(page, dashboard)
    _expect_the_backfill_apart_from_what_was_served(page, dashboard)
    _expect_a_picture_with_pair_and_time(page, dashboard)
    _expect_candles_and_compared_models_in_the_csv(page, dashboard)


def _expect_price_and_countdown(page: Page, dashboard: DashboardServers) -> None:
    with _client(dashboard) as client:
        forecast, past = client.forecast(Pair("btc", "usdt")), client.history(Pair("btc", "usdt"), 10)
    expect(page.locator("#last-price")).to_contain_text(f"{price(forecast.last_close)} USDT")
    countdown = page.locator("#countdown")
    expect(countdown).to_have_text(re.compile(r"next close in [\d:]+, at \d\d:\d\d local time"), timeout=3 * SLOW_MS)
    first = countdown.inner_text()
    expect(countdown).not_to_have_text(first)
    last = next(item for item in past if item.target_close_ms == forecast.as_of_ms)
    assert last.close is not None
    place = "inside" if last.inside_80 else "above" if last.close > last.quantiles["q90"] else "below"
    expect(page.locator("#since")).to_contain_text(f"closed {place} the 80 % band")
    expect(page).to_have_title("Forecasts · Make Us Rich")


def _expect_the_backfill_apart_from_what_was_served(page: Page, dashboard: DashboardServers) -> None:
    with _client(dashboard) as client:
        past = client.history("btc_usdt", 100)
    served = [item for item in past if not item.backfilled]
    assert len(past) == len(served) + len(BACKFILLED_HOURS)  # where one was served, the backfill's is left out
    inside = sum(item.inside_80 is True for item in served)

    badges = page.locator("#model-badges")
    expect(badges).to_contain_text(f"Served forecasts: {inside} of {len(served)} inside")
    expect(page.locator("#chart .legendtext", has_text="backfilled 80 % band")).to_be_visible()
    page.screenshot(path=ARTIFACTS / "backfilled.png", full_page=True)

    with page.expect_download() as download:
        page.click("#csv")
    assert download.value.suggested_filename == f"{_name_of_downloads(dashboard)}.csv"
    rows = list(csv.DictReader(Path(download.value.path()).read_text().splitlines()))
    assert sum(row["kind"] == "backfilled" for row in rows) == len(BACKFILLED_HOURS)
    assert sum(row["kind"] == "served" for row in rows) == len(served)


def test_a_page_loaded_after_the_swap_says_that_the_model_was_replaced(page: Page, dashboard: DashboardServers) -> None:
    with _client(dashboard) as client:
        forecast = client.forecast("chz_usdt")
    notice = page.locator("#forecast").get_by_text("New model.")

    def record(version: int, *, backfilled: bool) -> None:
        with Database.from_settings(dashboard.settings) as database:
            forecasts.record(
                database,
                [forecast.quantiles],
                market=forecast.market,
                pair=forecast.pair,
                interval=Interval.H1,
                as_of_ms=forecast.as_of_ms,
                version=version,
                last_close=forecast.last_close,
                foundation=not backfilled,
                backfilled=backfilled,
            )

    record(7, backfilled=True)
    _open(page, dashboard, "?pair=chz_usdt")
    expect(notice).to_have_count(0)

    record(3, backfilled=False)
    page.reload()
    expect(notice).to_have_text(
        "New model. Version 1 replaced version 3 of the foundation model since the last close; the forecast changed. "
        "The track record counts the first one.",
        timeout=SLOW_MS,
    )


def _expect_candles_and_compared_models_in_the_csv(page: Page, dashboard: DashboardServers) -> None:
    page.locator("#compare").click()
    page.get_by_role("option", name="naive").click()
    page.get_by_role("option", name="EWMA volatility").click()
    for name in ("naive, 80 %", "EWMA, 80 %"):
        expect(page.locator("#chart .legendtext", has_text=name)).to_be_visible(timeout=SLOW_MS)
    outlined = f"{_PLOT}._fullData.filter(({{name}}) => name === 'EWMA, 80 %').map(({{x}}) => x.length)"
    assert page.evaluate(outlined) == [2 * (1 + HORIZONS) + 1], "both ends of the band, with a gap between"
    with page.expect_download() as download:
        page.click("#csv")
    rows = list(csv.DictReader(Path(download.value.path()).read_text().splitlines()))

    with _client(dashboard) as client:
        others = [client.forecast("btc_usdt", model) for model in ("naive", "ewma")]
        candles = client.candles("btc_usdt", 168)
    coming = [row for row in rows if row["kind"] == "forecast"]
    assert [row["model"] for row in coming] == ["champion"] * HORIZONS + ["naive"] * HORIZONS + ["ewma"] * HORIZONS
    ends = [item.quantiles.q90 for forecast in others for item in forecast.horizons]
    assert [float(row["q90"]) for row in coming[HORIZONS:]] == ends
    closed = [row for row in rows if row["kind"] != "forecast"]
    assert [float(row["close"]) for row in reversed(closed)] == candles.close.tolist()
    assert all(float(row["low"]) <= float(row["high"]) for row in closed)
    assert all(float(row["q10"]) <= float(row["q90"]) for row in rows if row["kind"] != "candle")
    assert {row["inside_80"] for row in rows if row["kind"] == "served"} == {"True", "False"}
    assert {row["close"] for row in coming} == {""}  # these candles have not closed yet
    for row in rows:
        written = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(row["target_close_ms"]) / 1000))
        assert row["target_close"] == written


def _as_of(dashboard: DashboardServers) -> time.struct_time:
    with _client(dashboard) as client:
        return time.gmtime(client.forecast("btc_usdt").as_of_ms / 1000)


def _name_of_downloads(dashboard: DashboardServers) -> str:
    return time.strftime("btc_usdt_1h_%Y-%m-%d_%H%M_UTC", _as_of(dashboard))


def _expect_a_picture_with_pair_and_time(page: Page, dashboard: DashboardServers) -> None:
    title = time.strftime("BTC / USDT, simulated prices, 1h, forecast as of %d %b %Y %H:%M UTC", _as_of(dashboard))
    page.evaluate(
        "() => { const download = Plotly.downloadImage; Plotly.downloadImage = (figure, options) => {"
        " window.drawn = figure.layout.title.text; return download(figure, options); }; }"
    )
    with page.expect_download() as picture:
        page.click("#png")
    assert picture.value.suggested_filename == f"{_name_of_downloads(dashboard)}.png"
    picture.value.save_as(ARTIFACTS / "download.png")
    assert Path(picture.value.path()).read_bytes().startswith(b"\x89PNG")
    assert page.evaluate("window.drawn") == title


def test_a_pair_that_is_not_served_is_named_with_the_reason(page: Page, dashboard: DashboardServers) -> None:
    with Database.from_settings(dashboard.settings) as database:
        pairs_table.put(database, Pair("doge", "usdt"), plan="pooled")
        pairs_table.park(database, Pair("doge", "usdt"), "halted by the exchange")
        pairs_table.put(database, Pair("new", "usdt"), plan="pooled")

    log_in(page, dashboard.url, "reader", "/?pair=doge_usdt")
    notice = page.locator("#forecast")
    expect(notice).to_contain_text("DOGE / USDT is not served", timeout=SLOW_MS)
    expect(notice).to_contain_text("halted by the exchange")
    expect(page.locator("#pair")).to_have_value("DOGE / USDT")
    expect(page.locator("#chart-section")).to_be_hidden()
    page.screenshot(path=ARTIFACTS / "not-served.png")
    for query, title in (("new_usdt", "NEW / USDT has no forecast yet"), ("sol_usdt", "SOL / USDT is unknown")):
        page.goto(f"{dashboard.url}/?pair={query}")
        expect(notice).to_contain_text(title, timeout=SLOW_MS)
    page.goto(f"{dashboard.url}/?pair=BTC")
    expect(notice).to_contain_text("BTC is unknown", timeout=SLOW_MS)

    page.click("#pair")
    page.get_by_role("option", name="ETH / USDT").click()
    expect(page.locator("#reading")).to_contain_text("ETH / USDT", timeout=SLOW_MS)
    expect(notice).not_to_contain_text("unknown")


def test_typing_replaces_the_pair_and_none_is_shown_while_another_cannot_be_fetched(
    page: Page, dashboard: DashboardServers
) -> None:
    _open(page, dashboard)
    page.click("#pair")
    page.keyboard.type("e")
    expect(page.locator("#pair")).to_have_value("e")
    expect(page.get_by_role("option").first).to_have_text("ETH / USDT")
    page.keyboard.press("Enter")

    expect(page).to_have_url(f"{dashboard.url}/?pair=eth_usdt")
    expect(page.locator("#reading")).to_contain_text("ETH / USDT", timeout=SLOW_MS)
    page.click("#pair")
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    expect(page.locator("#pair")).to_have_value("ETH / USDT")

    # no other pair is shown while the chosen one cannot be fetched
    page.goto(f"{dashboard.url}/?pair=btc_usdt")
    expect(page.locator("#reading")).to_contain_text("BTC / USDT", timeout=SLOW_MS)
    page.click("#pair")
    page.context.set_offline(True)
    page.get_by_role("option", name="ETH / USDT").click()
    expect(page.get_by_text("Loading ETH / USDT")).to_be_visible()
    expect(page.locator("#reading")).to_be_hidden()
    expect(page.locator("#connection")).to_contain_text("The page retries automatically.")
    page.screenshot(path=ARTIFACTS / "offline.png")

    page.context.set_offline(False)
    began = time.monotonic()
    expect(page.locator("#reading")).to_contain_text("ETH / USDT", timeout=SLOW_MS)
    expect(page.locator("#reading")).to_be_visible()
    assert time.monotonic() - began < 10  # generous, for a busy machine
    expect(page.locator("#connection")).to_have_count(0)
    expect(page.get_by_text("Loading ETH / USDT")).to_have_count(0)


def test_the_time_shown_is_chosen_and_the_view_can_be_reset(page: Page, dashboard: DashboardServers) -> None:
    _open(page, dashboard)
    assert page.evaluate(_SHOWN) == 48
    page.locator("#span").get_by_text("7 d").click()
    page.wait_for_function(f"({_SHOWN})() === 168")
    whole = page.evaluate(_VIEW)

    box = page.locator("#chart .nsewdrag").first.bounding_box()
    assert box is not None
    _hold_dragged(page, whole, (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2), (-box["width"] / 4, -100))
    page.mouse.up()
    assert page.evaluate(_VIEW) != whole

    page.get_by_role("button", name="Reset view").click()
    page.wait_for_function(f"(whole) => JSON.stringify(({_VIEW})()) === JSON.stringify(whole)", arg=whole)
    page.screenshot(path=ARTIFACTS / "week.png", full_page=True)

    # dragged until the fan is out of view, the chart goes back to the whole
    _hold_dragged(page, whole, (box["x"] + box["width"] * 0.1, box["y"] + box["height"] / 2), (box["width"] * 0.8, 0))
    page.mouse.up()
    page.wait_for_function(f"(whole) => JSON.stringify(({_VIEW})()) === JSON.stringify(whole)", arg=whole)

    page.reload()
    page.wait_for_function(f"({_SHOWN})() === 168")


def test_on_a_phone_the_time_shown_can_be_chosen_too(browser: Browser, dashboard: DashboardServers) -> None:
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True)
    page = context.new_page()
    _open(page, dashboard)
    assert page.evaluate(_SHOWN) == 24

    spans, reset = page.locator("#span-phone"), page.get_by_role("button", name="Reset view")
    expect(page.locator("#span")).to_be_hidden()
    for control in (spans, reset):
        box = control.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE["width"]
        assert box["height"] >= 30, "high enough for a thumb"
    assert horizontal_overflow_px(page) <= 0

    whole = page.evaluate(_VIEW)
    page.evaluate(f"() => Plotly.relayout({_PLOT}, {{'yaxis.range': [1, 2]}})")
    reset.tap()
    page.wait_for_function(f"(whole) => JSON.stringify(({_VIEW})()) === JSON.stringify(whole)", arg=whole)

    spans.get_by_text("7 d").tap()
    page.wait_for_function(f"({_SHOWN})() === 168")
    page.screenshot(path=ARTIFACTS / "phone-week.png", full_page=True)
    page.reload()
    page.wait_for_function(f"({_SHOWN})() === 168")
    context.close()


def _hold_dragged(page: Page, view: object, start: tuple[float, float], by: tuple[float, float]) -> None:
    """Drag the chart away from this view, and hold it. It takes no drag while it is drawn anew, so try again."""

    def is_dragged() -> bool:
        page.mouse.up()
        page.mouse.move(*start)
        page.mouse.down()
        page.mouse.move(start[0] + by[0], start[1] + by[1], steps=4)
        return bool(page.evaluate(_VIEW) != view)

    wait_until(is_dragged, 20, "the chart took no drag")


def test_times_are_local_with_utc_on_hover(browser: Browser, dashboard: DashboardServers) -> None:
    context = browser.new_context(timezone_id="America/New_York")
    page = context.new_page()
    _open(page, dashboard, "?pair=btc_usdt")
    with _client(dashboard) as client:
        forecast = client.forecast(Pair("btc", "usdt"))
    last_close = datetime.fromtimestamp(forecast.as_of_ms / 1000, ZoneInfo("America/New_York"))
    shown = page.locator("#last-price time")
    expect(shown).to_have_text(re.compile(f"^{last_close:%d} .* {last_close:%H:%M} GMT-[45]$"))
    expect(shown).to_have_attribute("title", utc_time(forecast.as_of_ms))

    axis = page.evaluate(
        f"() => {{ const {{range, title}} = {_PLOT}._fullLayout.xaxis; return [...range, title.text] }}"
    )
    assert re.fullmatch("GMT-[45]", axis[2])
    first = datetime.fromtimestamp(forecast.as_of_ms / 1000 - 48 * 3600, ZoneInfo("America/New_York"))
    assert axis[0].startswith(f"{first:%Y-%m-%dT%H:%M}")

    page.get_by_role("slider", name="horizon").press("End")
    last = datetime.fromtimestamp(forecast.horizons[-1].target_close_ms / 1000, ZoneInfo("America/New_York"))
    expect(page.locator("#reading time")).to_have_text(re.compile(f"^{last:%d} .* {last:%H:%M} GMT-[45]$"))
    context.close()


def test_what_was_served_is_compared_with_volatility_models(
    page: Page, folder: Path, dashboard: DashboardServers
) -> None:
    _open(page, dashboard, "?pair=chz_usdt")
    line = page.locator("#served-record")
    expect(line).to_contain_text("No served forecast is scored yet.")
    pair, as_of_ms = Pair("chz", "usdt"), Interval.H1.last_close_ms(time.time_ns() // 1_000_000)
    with s3_server() as s3, Database.from_settings(dashboard.settings) as database:
        objects = ObjectStore(s3, *S3_KEYS, "served")
        objects.ensure_bucket()
        market = dashboard.settings.market
        record_live_weeks(database, CandleStore(objects), pair, as_of_ms, hours=24 * 6, market=market)

    _choose_horizon(page, 4)  # asked for the first time
    shown = r"Served 4 h ahead since .*: \d+\s% of 1\d\d closes .* naive .*, .*EWMA.*, .*GARCH.*\. Track record"
    expect(line).to_have_text(re.compile(shown), timeout=SLOW_MS)
    line.get_by_role("link", name="Track record").click()
    expect(page.get_by_role("heading", name="CHZ / USDT").first).to_be_visible(timeout=SLOW_MS)


def _choose_horizon(page: Page, horizon: int) -> None:
    slider = page.get_by_role("slider", name="horizon")
    slider.press("Home")
    for _ in range(horizon - 1):
        slider.press("ArrowRight")
