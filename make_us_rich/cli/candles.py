"""`mkrich candles`: download candles to files on this machine."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from make_us_rich.cli.shared import split_pairs
from make_us_rich.core.errors import InputError, MarketError
from make_us_rich.core.settings import get_settings
from make_us_rich.core.terminal import console

candles_app = typer.Typer(help="Download candles.", no_args_is_help=True)

_MAX_WAIT_S = 300.0  # for the exchange's rate limit: longer than in serving, because no forecast waits for it
_INTERRUPTED = 130  # the exit code of shells after Ctrl-C


def register(app: typer.Typer) -> None:
    app.add_typer(candles_app, name="candles")


@candles_app.callback()
def _candles() -> None:
    """Download candles."""


@candles_app.command()
def download(
    pairs: Annotated[str, typer.Option(help="comma separated, such as btc_usdt,eth_usdt")],
    start: Annotated[datetime, typer.Option("--from", help="first day (UTC)", formats=["%Y-%m-%d"])],
    end: Annotated[datetime, typer.Option("--to", help="the day after the last one (UTC)", formats=["%Y-%m-%d"])],
    out: Annotated[Path, typer.Option(help="folder for BTCUSDT.parquet and the like")],
) -> None:
    """Download hourly candles from the exchange. After an interruption, the same command continues."""
    from make_us_rich.market.exchange import ExchangeClient
    from make_us_rich.market.recordings import Download

    settings = get_settings()  # not those of a stack that was started here, which may simulate its prices
    console.print(f"candles from {settings.exchange_url}")
    exchange = ExchangeClient(settings.exchange_url, max_wait_s=_MAX_WAIT_S)
    chosen = split_pairs(pairs)
    start_ms, to_ms = (int(day.replace(tzinfo=UTC).timestamp() * 1000) for day in (start, end))
    end_ms = min(to_ms, exchange.server_time_ms())
    if start_ms >= end_ms:
        raise InputError("--from is not before --to, or is in the future: move them apart", field="from")
    out.mkdir(parents=True, exist_ok=True)
    downloads = {pair: Download(pair, settings.interval, start_ms, end_ms, out) for pair in chosen}
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console, disable=not console.is_terminal,
    )  # fmt: skip
    try:
        with bar:
            task = bar.add_task("candles", total=sum(len(item.missing) for item in downloads.values()))
            for pair, item in downloads.items():
                bar.update(task, description=str(pair))
                console.print(str(item.run(exchange, lambda candles: bar.advance(task, candles))))
    except (MarketError, KeyboardInterrupt) as error:
        console.print(f"the candles downloaded so far are in {out}: the same command continues")
        if isinstance(error, KeyboardInterrupt):
            raise typer.Exit(_INTERRUPTED) from None
        raise
