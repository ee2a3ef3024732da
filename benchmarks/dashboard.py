"""How fast the dashboard is, and how far a guesser gets: python -m benchmarks.dashboard

On a real database and forecast service, with a headless Chromium; everything else is idle.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import time
from collections import Counter

import httpx
from playwright.sync_api import Page, sync_playwright

from tests.support.browser import PASSWORD, log_in
from tests.support.dashboard_servers import DashboardServers, dashboard_servers
from tests.support.folders import traversable_folder

_PAIRS = ("btc_usdt", "chz_usdt", "eth_usdt")
_TRIES = 1_000
_PICTURE = "#chart .legendtext"
# Resolves with the time since navigation began, when the picture shows another close than the one before.
_NEXT_PICTURE = """(before) => new Promise((resolve) => {
    const look = () => {
        const labels = [...document.querySelectorAll("#chart .annotation-text")].map((text) => text.textContent);
        const now = labels.join();
        if (labels.length && now !== before) resolve([performance.now(), now]);
        else requestAnimationFrame(look);
    };
    look();
})"""


def main() -> None:
    environment = {"MUR_TRUSTED_PROXIES": "1"}
    with traversable_folder() as folder, dashboard_servers(folder, _PAIRS, environment) as stack:
        stack.accounts.create_user("visitor", PASSWORD)
        rows = [*_speed(stack), *_guessing(stack)]
    print(f"load average before the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    print("| what | measured | goal |\n|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


def _speed(stack: DashboardServers) -> list[tuple[str, str, str]]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        log_in(page, stack.url, "visitor", "/account")
        page.wait_for_load_state("networkidle")
        first = [_load(page, f"{stack.url}/?pair=btc_usdt") for _ in range(5)]
        switches = [_switch(page, label) for label in ("ETH / USDT", "CHZ / USDT", "BTC / USDT") * 3]
        browser.close()
    painted, drawn = (statistics.median(values) for values in zip(*first, strict=True))
    return [
        ("first contentful paint of Forecasts, median of 5", f"{painted / 1000:.2f} s", "2.5 s"),
        ("its chart is drawn, median of 5", f"{drawn / 1000:.2f} s", ""),
        ("another pair: from click to chart, median of 9", f"{statistics.median(switches):.0f} ms", "500 ms"),
        ("another pair, slowest of 9", f"{max(switches):.0f} ms", ""),
    ]


def _load(page: Page, url: str) -> tuple[float, float]:
    """First contentful paint and the drawn chart, ms since navigation began."""
    page.goto(url, wait_until="commit")
    drawn = page.evaluate(_NEXT_PICTURE, "")[0]
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    return float(paint), float(drawn)


def _switch(page: Page, label: str) -> float:
    before = page.evaluate(_NEXT_PICTURE, "")[1]
    page.click("#pair")
    page.evaluate(
        "(label) => { window.clicked = null; document.querySelectorAll('[role=option]').forEach((option) => "
        "option.textContent === label && option.addEventListener('click', () => window.clicked = performance.now(), "
        "{capture: true})); }",
        label,
    )
    page.get_by_role("option", name=label).click()
    drawn = page.evaluate(_NEXT_PICTURE, before)[0]
    return float(drawn - page.evaluate("window.clicked"))


def _guessing(stack: DashboardServers) -> list[tuple[str, str, str]]:
    """One address guesses at one account; the owner logs in from another meanwhile (behind a proxy's header)."""
    stack.accounts.create_user("owner", PASSWORD)
    with httpx.Client(base_url=stack.url, timeout=60) as guesser:
        token = _csrf(guesser)
        began = time.monotonic()
        statuses = Counter(
            guesser.post(
                "/login", data={"csrf_token": token, "name": "owner", "password": f"guess {number}"}
            ).status_code
            for number in range(_TRIES)
        )
        took_s = time.monotonic() - began
    with httpx.Client(base_url=stack.url, headers={"X-Forwarded-For": "198.51.100.7"}) as owner:
        form = {"csrf_token": _csrf(owner), "name": "owner", "password": PASSWORD}
        entered = owner.post("/login", data=form).status_code == 302
    return [
        (f"{_TRIES:,} guesses at one account: passwords checked", f"{statuses[200]}", "10 in 15 min"),
        ("the others refused (429), each in", f"{took_s / _TRIES * 1000:.0f} ms", ""),
        ("the owner, from another address meanwhile", "gets in" if entered else "is locked out", "gets in"),
    ]


def _csrf(client: httpx.Client) -> str:
    found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', client.get("/login").text)
    assert found is not None
    return found[1]


if __name__ == "__main__":
    main()
