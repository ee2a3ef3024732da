"""The track record that the shipped foundation would have of two recorded weeks after its training.

    .venv/bin/python -m benchmarks.track_record --candles DIR [--pairs btc_usdt,...] [--picture FILE]

For each hour, the forecast is computed from the candles that had closed, and stored as if it had been recorded 20
seconds later. The pipeline's own functions find the outcomes and the baselines' losses. Prints the figures of the page,
and takes its picture in Chromium.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from playwright.sync_api import sync_playwright

from benchmarks.pictures import open_browser
from benchmarks.stack import settings_of, temporary_stack
from make_us_rich.core.arguments import argument, parse_pairs
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN, Pair, foundation_name
from make_us_rich.core.times import to_ms
from make_us_rich.database import forecasts, outcomes
from make_us_rich.database.pool import Database
from make_us_rich.embedded.components import responds
from make_us_rich.embedded.lifecycle import Stack
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.market.candles import Candles
from make_us_rich.market.recordings import read_recorded
from make_us_rich.market.window import WINDOW_CANDLES, common_window
from make_us_rich.record.figures import Share
from make_us_rich.record.outcomes import record
from make_us_rich.record.track_record import track_record
from make_us_rich.registry import shipped
from make_us_rich.registry.client import ModelVersion
from serve_app.replica.forecast import ComputedForecast
from serve_app.replica.models import LoadedModel, ModelCache

MARKET, INTERVAL = "binance", Interval.H1
_PAIRS = "btc_usdt,eth_usdt,ada_usdt,chz_usdt,doge_usdt,ltc_usdt"
_FROM = datetime(2022, 10, 10, tzinfo=UTC)  # a Monday; the foundation's candles end on the 8th
_HOURS = 24 * 14
_RECORDED_AFTER_S = 20
_HORIZONS = (1, 8, 24)
_PORT = 901  # from the stack's first port, beyond those of its components


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candles", type=Path, required=True, help="folder of recorded klines")
    parser.add_argument("--pairs", type=argument(parse_pairs), default=_PAIRS)
    parser.add_argument("--picture", type=Path, help="file of the picture of the page")
    arguments = parser.parse_args()
    pairs = list(arguments.pairs)
    candles = read_recorded(arguments.candles, list({*pairs, BITCOIN}), INTERVAL)
    model = _foundation()
    with temporary_stack({}, ("serving",)) as stack:
        settings = settings_of(stack)
        store = CandleStore.from_settings(settings)
        with Database.from_settings(settings) as database:
            for pair in pairs:
                _serve(database, model, pair, candles[pair], candles[BITCOIN])
                store.write(MARKET, pair, INTERVAL, candles[pair])
                ended_ms = to_ms(_FROM) + (_HOURS + 24) * HOUR_MS
                while record(database, store, market=MARKET, pair=pair, interval=INTERVAL, as_of_ms=ended_ms):
                    pass
            _print(database, pairs)
        if arguments.picture:
            with _dashboard(stack) as url:
                _take_picture(f"{url}/track-record?pair={pairs[0]}&horizon=8", arguments.picture)


def _foundation() -> LoadedModel:
    found = shipped.find(MARKET, INTERVAL)
    assert found is not None
    assert found.card.as_of_ms <= to_ms(_FROM), "the foundation was trained on these weeks"
    version = ModelVersion(
        foundation_name(INTERVAL), 1, "shipped", created_ms=found.card.as_of_ms, tags=found.card.tags
    )
    return LoadedModel(version, found.graph, ModelCache(1))


def _serve(database: Database, model: LoadedModel, pair: Pair, candles: Candles, bitcoin: Candles) -> None:
    """Store the forecast of each hour."""
    for as_of_ms in range(to_ms(_FROM), to_ms(_FROM) + _HOURS * HOUR_MS, HOUR_MS):
        own, reference = (each[each.open_time_ms < as_of_ms][-WINDOW_CANDLES:] for each in (candles, bitcoin))
        window = common_window(own, reference, INTERVAL)
        assert window is not None
        assert window.as_of_ms == as_of_ms, f"{pair} has no candle closed at {as_of_ms}"
        forecast = ComputedForecast.compute(pair, model, window)
        forecasts.record(
            database,
            [each.quantiles for each in forecast.horizons],
            market=MARKET,
            pair=pair,
            interval=INTERVAL,
            as_of_ms=as_of_ms,
            version=1,
            last_close=forecast.last_close,
            foundation=True,
            made_at=datetime.fromtimestamp(as_of_ms / 1000 + _RECORDED_AFTER_S, UTC),
        )


def _print(database: Database, pairs: list[Pair]) -> None:
    print(
        "| pair | candles ahead | forecasts | inside the 80 % band | saved of naive's loss | of EWMA's | of GARCH's |"
    )
    print("|---|---|---|---|---|---|---|")
    for pair in pairs:
        for horizon in _HORIZONS:
            found = outcomes.scored(database, market=MARKET, pair=pair, interval=INTERVAL, horizon=horizon)
            made = track_record(pair, found)
            assert made is not None
            skills = (
                f"{skill.value:+.1%}" + (f" ± {skill.margin:.1%}" if skill.margin is not None else "")
                for skill in made.skills
            )
            print(f"| {pair} | {horizon} | {made.n} | {_percent(made.coverage)} | {' | '.join(skills)} |")


def _percent(share: Share) -> str:
    return f"{share.value:.0%} ({share.low:.0%} to {share.high:.0%})"


@contextmanager
def _dashboard(stack: Stack) -> Iterator[str]:
    """Run a dashboard of the recorded market on the stack's Postgres; gives its URL."""
    port = stack.config.port_base + _PORT
    url = f"http://127.0.0.1:{port}"
    environment = os.environ | stack.environment | {"MUR_MARKET": MARKET, "MUR_DASHBOARD_URL": url}
    with subprocess.Popen([sys.executable, "-m", "dash_app", "--port", str(port)], env=environment) as server:
        try:
            while server.poll() is None and not responds(f"{url}/login"):
                time.sleep(0.2)
            yield url
        finally:
            server.terminate()


def _take_picture(url: str, path: Path) -> None:
    with sync_playwright() as playwright:
        browser = open_browser(playwright)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(url, wait_until="networkidle")
        page.screenshot(path=path, full_page=True)
        browser.close()


if __name__ == "__main__":
    main()
