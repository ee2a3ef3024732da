"""How fast the dashboard is, and how it slows password guessing down.

    .venv/bin/python -m benchmarks.dashboard

Headless Chromium against the dashboard and the forecast service of an embedded stack, without Airflow.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from statistics import median

import httpx
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.pictures import log_in, open_browser
from benchmarks.stack import print_table, serving_stack
from make_us_rich.embedded.environment import DEMO_USER
from make_us_rich.embedded.lifecycle import Stack

PAIRS = ("btc_usdt", "chz_usdt", "eth_usdt")
GUESSES = 1_000
_SLOW_NETWORK = {"offline": False, "latency": 50, "downloadThroughput": 200_000, "uploadThroughput": 200_000}


def _next(text: str) -> str:
    """Return JavaScript that resolves with the time since navigation began, as soon as the page shows another text."""
    return f"""(before) => new Promise((resolve) => {{
        const look = () => {{
            const now = {text};
            if (now && now !== before) resolve([performance.now(), now]);
            else requestAnimationFrame(look);
        }};
        look();
    }})"""


_NEXT_CHART = _next("[...document.querySelectorAll('#chart .annotation-text')].map((each) => each.textContent).join()")
_NEXT_SENTENCE = _next("document.querySelector('#reading').textContent")
_NOTE_KEY = "() => addEventListener('keydown', () => window.pressed = performance.now(), {capture: true, once: true})"
_NOTE_CLICK = """(label) => {
    window.clicked = null;
    document.querySelectorAll('[role=option]').forEach((option) => option.textContent === label
        && option.addEventListener('click', () => window.clicked = performance.now(), {capture: true}));
}"""


def main() -> None:
    with serving_stack(PAIRS, ("serving", "interface"), MUR_TRUSTED_PROXIES="1") as stack:
        rows = [*_speed(stack), *_guessing(stack)]
    print(f"load average at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print_table(rows)


def _speed(stack: Stack) -> list[tuple[str, str, str]]:
    url = stack.config.url("dash")
    with sync_playwright() as playwright:
        browser = open_browser(playwright)
        page = browser.new_page()
        log_in(page, f"{url}/login?next=/account", DEMO_USER, stack.secrets.demo_password)
        page.wait_for_load_state("networkidle")
        first = [_load(page, f"{url}/?pair=btc_usdt") for _ in range(5)]
        switches = [_switch(page, label) for label in ("ETH / USDT", "CHZ / USDT", "BTC / USDT") * 3]
        horizons = [_choose_horizon(page, key) for key in ("ArrowRight", "End", "Home") * 3]
        slow = [_first_visit(browser, stack) for _ in range(3)]
        browser.close()
    painted, drawn = (median(values) for values in zip(*first, strict=True))
    received, slowly_drawn = (median(values) for values in zip(*slow, strict=True))
    return [
        ("first contentful paint of Forecasts, median of 5", f"{painted / 1000:.2f} s", "2.5 s"),
        ("its chart is drawn, median of 5", f"{drawn / 1000:.2f} s", "1 s"),
        ("another pair: from click to chart, median of 9", f"{median(switches):.0f} ms", "500 ms"),
        ("another pair, slowest of 9", f"{max(switches):.0f} ms", ""),
        ("another horizon: from key to sentence, median of 9", f"{median(horizons):.0f} ms", "100 ms"),
        ("first visit: received until the chart is drawn", f"{received / 1e6:.2f} MB", "0.9 MB"),
        ("first visit at 1.6 Mbit/s: chart drawn, median of 3", f"{slowly_drawn / 1000:.1f} s", "6 s"),
    ]


def _load(page: Page, url: str) -> tuple[float, float]:
    """Return the first contentful paint and the time of the drawn chart, in ms since navigation began."""
    page.goto(url, wait_until="commit")
    drawn = page.evaluate(_NEXT_CHART, "")[0]
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    return float(paint), float(drawn)


def _first_visit(browser: Browser, stack: Stack) -> tuple[int, float]:
    """Return the bytes of a first visit until the chart is drawn, and the ms that it took at 1.6 Mbit/s.

    Logs in by a request, so that the browser has no script in its cache.
    """
    context = browser.new_context()
    page = context.new_page()
    url = stack.config.url("dash")
    login = context.request.get(f"{url}/login").text()
    form: dict[str, str | float | bool] = {
        "csrf_token": _csrf_token(login),
        "name": DEMO_USER,
        "password": stack.secrets.demo_password,
    }
    context.request.post(f"{url}/login", form=form)
    received: list[int] = []
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    session.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
    session.send("Network.emulateNetworkConditions", _SLOW_NETWORK)
    _, drawn = _load(page, f"{url}/?pair=btc_usdt")
    context.close()
    return sum(received), drawn


def _switch(page: Page, label: str) -> float:
    """Choose another pair; returns the milliseconds from the click to its chart."""
    before = page.evaluate(_NEXT_CHART, "")[1]
    page.click("#pair")
    page.evaluate(_NOTE_CLICK, label)
    page.get_by_role("option", name=label).click()
    drawn = page.evaluate(_NEXT_CHART, before)[0]
    return float(drawn - page.evaluate("window.clicked"))


def _choose_horizon(page: Page, key: str) -> float:
    """Move the slider; returns the milliseconds from the key to the sentence of another horizon."""
    before = page.evaluate(_NEXT_SENTENCE, "")[1]
    page.evaluate(_NOTE_KEY)
    page.get_by_role("slider", name="horizon").press(key)
    shown = page.evaluate(_NEXT_SENTENCE, before)[0]
    return float(shown - page.evaluate("window.pressed"))


def _guessing(stack: Stack) -> list[tuple[str, str, str]]:
    """Guess at one account from one address while its owner logs in from another."""
    url = stack.config.url("dash")
    with httpx.Client(base_url=url, timeout=60) as guesser:
        token = _csrf_token(guesser.get("/login").text)
        began = time.monotonic()
        statuses = Counter(
            guesser.post(
                "/login", data={"csrf_token": token, "name": DEMO_USER, "password": f"guess {number}"}
            ).status_code
            for number in range(GUESSES)
        )
        took_s = time.monotonic() - began
    with httpx.Client(base_url=url, transport=httpx.HTTPTransport(local_address="127.0.0.2")) as owner:
        form = {
            "csrf_token": _csrf_token(owner.get("/login").text),
            "name": DEMO_USER,
            "password": stack.secrets.demo_password,
        }
        entered = owner.post("/login", data=form).status_code == 302
    return [
        (f"{GUESSES:,} guesses at one account: passwords checked", f"{statuses[200]}", "10 in 15 min"),
        ("the others refused (429), each in", f"{took_s / GUESSES * 1000:.0f} ms", ""),
        ("the owner, from another address meanwhile", "gets in" if entered else "is locked out", "gets in"),
    ]


def _csrf_token(page: str) -> str:
    found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
    if found is None:
        raise SystemExit("the log-in page has no CSRF token")
    return found[1]


if __name__ == "__main__":
    main()
