"""The pages with reference pictures: their addresses, the dashboard that shows them, and their visitors.

The first tier of the tests compares a wide light window and a narrow dark one, the second tier the other four.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from playwright.sync_api import Browser, BrowserContext, Page, expect

from make_us_rich.accounts import ADMIN
from make_us_rich.client import Client
from make_us_rich.core.interval import HOUR_MS
from make_us_rich.core.pair import Pair
from make_us_rich.database.pool import Database
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.market.object_store import ObjectStore
from tests.support.browser import PASSWORD, log_in
from tests.support.dashboard_servers import DashboardServers, dashboard_servers, register_model_versions
from tests.support.pictures import check_picture, open_context, skip_unless_comparable
from tests.support.servers import S3_KEYS, s3_server
from tests.support.track_record import record_live_weeks
from tests.support.waiting import wait_until

SLOW_MS = 60_000
_PAIRS = ("btc_usdt", "eth_usdt", "ltc_usdt")


class Window(NamedTuple):
    width: int
    scheme: Literal["light", "dark"]


FIRST_TIER = (Window(1440, "light"), Window(390, "dark"))
SECOND_TIER = (Window(1440, "dark"), Window(820, "light"), Window(820, "dark"), Window(390, "light"))


class PicturedPage(NamedTuple):
    """`ready`: what is there once the page is complete."""

    path: str
    visitor: Literal["stranger", "reader", "root"]
    ready: str


PAGES = {
    "log-in": PicturedPage("/login", "stranger", "button[type=submit]"),
    "register": PicturedPage("/register", "stranger", "button[type=submit]"),
    "landing": PicturedPage("/", "stranger", "h1"),
    "track-record": PicturedPage("/track-record?pair=ada_usdt", "stranger", "#recent"),
    "embed": PicturedPage("/embed/btc_usdt", "stranger", "h1"),
    "error": PicturedPage("/embed/nothing", "stranger", "h1"),
    "forecasts": PicturedPage("/", "reader", "#chart .legendtext"),
    "overview": PicturedPage("/overview", "reader", "#overview-table tbody tr:nth-child(3) a"),
    "models": PicturedPage("/models", "reader", "#model-detail .legendtext"),
    "api": PicturedPage("/api-tokens", "reader", "#curl-example"),
    "account": PicturedPage("/account", "reader", "#sessions time"),
    "admin": PicturedPage("/admin", "root", "#admin-users .row-actions"),
}


@dataclass(frozen=True)
class PicturedPages:
    """A running dashboard, and a browser context for each visitor."""

    dashboard: DashboardServers
    visitors: dict[str, BrowserContext]

    def check(self, name: str, windows: Sequence[Window]) -> None:
        """Assert that the page looks as its pictures, or renew them.

        When an hour ended meanwhile, the page is compared again with the forecasts that followed the close.
        """
        began_ms = time.time_ns() // 1_000_000
        problems = self._compare(name, windows)
        if problems and time.time_ns() // 1_000_000 // HOUR_MS != began_ms // HOUR_MS:
            wait_until(self._is_up_to_date, 120, "the forecasts do not follow the close")
            problems = self._compare(name, windows)
        assert not problems, "\n".join(["`make reference-pictures` renews them if the change is wanted", *problems])

    def _compare(self, name: str, windows: Sequence[Window]) -> list[str]:
        shown = PAGES[name]
        page = self.visitors[shown.visitor].new_page()
        page.set_viewport_size({"width": windows[0].width, "height": 900})
        page.goto(self.dashboard.url + shown.path)
        _wait_for(page, shown.ready)
        problems = []
        for width, scheme in windows:
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 900})
            problems.append(check_picture(page, f"{name}-{width}-{scheme}"))
        page.close()
        return [problem for problem in problems if problem]

    def _is_up_to_date(self) -> bool:
        settings = self.dashboard.settings
        close_ms = time.time_ns() // 1_000_000 // HOUR_MS * HOUR_MS
        with Client(settings.api_url, settings.dashboard_token.get_secret_value()) as client:
            return all(client.forecast(pair).as_of_ms == close_ms for pair in _PAIRS)


def _wait_for(page: Page, ready: str) -> None:
    try:
        expect(page.locator(ready).first).to_be_attached(timeout=SLOW_MS)
    except AssertionError:  # on an overloaded machine a page once did not start; other tests check that pages start
        page.reload()
        expect(page.locator(ready).first).to_be_attached(timeout=SLOW_MS)
    page.wait_for_load_state("networkidle")


@contextmanager
def pictured_pages(browser: Browser, folder: Path) -> Iterator[PicturedPages]:
    """Run a dashboard with three pairs, and the record of a fourth that is no longer forecast."""
    with ExitStack() as contexts:
        dashboard = contexts.enter_context(dashboard_servers(folder, _PAIRS, registry=True))
        database = contexts.enter_context(Database(dashboard.settings.database_url.get_secret_value()))
        objects = ObjectStore(contexts.enter_context(s3_server()), *S3_KEYS, "pictures")
        objects.ensure_bucket()
        now_ms = time.time_ns() // 1_000_000
        as_of_ms = now_ms - now_ms % HOUR_MS
        record_live_weeks(
            database, CandleStore(objects), Pair("ada", "usdt"), as_of_ms, hours=24 * 30, market="simulated"
        )
        register_model_versions(dashboard.settings.mlflow_url, "btc_usdt_1h")
        dashboard.accounts.users.create("reader", PASSWORD)
        dashboard.accounts.users.create("root", PASSWORD, role=ADMIN)
        visitors = {"stranger": contexts.enter_context(open_context(browser))}
        skip_unless_comparable(visitors["stranger"])
        for name in ("reader", "root"):  # in this order: the admin's page shows who has logged in
            visitors[name] = contexts.enter_context(open_context(browser))
            _log_in(visitors[name], dashboard, name)
        yield PicturedPages(dashboard, visitors)


def _log_in(context: BrowserContext, dashboard: DashboardServers, name: str) -> None:
    page = context.new_page()
    log_in(page, dashboard.url, name, "/account")
    expect(page.locator("#sessions time").first).to_be_attached(timeout=SLOW_MS)
    page.close()
