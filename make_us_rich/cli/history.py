"""`mkrich candles download` and `mkrich backtest`: candles of the past, and how a model would have done on them."""

from __future__ import annotations

import asyncio
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from make_us_rich.cli.shared import command_error, settings_here, split_pairs
from make_us_rich.core.arguments import MISTAKE
from make_us_rich.core.errors import InputError, MarketError
from make_us_rich.core.interval import Interval, duration_ms, windows_between
from make_us_rich.core.settings import Settings, get_settings
from make_us_rich.core.terminal import console
from make_us_rich.core.times import to_ms

if TYPE_CHECKING:
    from make_us_rich.pipeline.ray_jobs import RayJob, RayJobsClient

candles_app = typer.Typer(help="Download candles.", no_args_is_help=True)

_MAX_WAIT_S = 300.0  # for the exchange's rate limit: longer than in serving, because no forecast waits for it
_INTERRUPTED = 130  # the exit code of shells after Ctrl-C
_POLL_S = 1.0


@candles_app.command()
def download(
    pairs: Annotated[str, typer.Option(help="comma separated, such as btc_usdt,eth_usdt")],
    start: Annotated[datetime, typer.Option("--from", help="first day (UTC)", formats=["%Y-%m-%d"])],
    end: Annotated[datetime, typer.Option("--to", help="the day after the last one (UTC)", formats=["%Y-%m-%d"])],
    out: Annotated[Path, typer.Option(help="folder for BTCUSDT.parquet and the like")],
    interval: Annotated[str, typer.Option(help=f"length of a candle: {', '.join(Interval)}")] = Interval.H1,
) -> None:
    """Download candles from the exchange. After an interruption, the same command continues."""
    from make_us_rich.market.exchange import ExchangeClient
    from make_us_rich.market.recordings import Download

    chosen, length = split_pairs(pairs), Interval.parse(interval)
    if not chosen:
        raise InputError("--pairs: name some, such as btc_usdt,eth_usdt", field="pairs")
    out.mkdir(parents=True, exist_ok=True)
    settings = get_settings()  # not those of a stack that was started here, which may simulate its prices
    console.print(f"candles from {settings.exchange_url}")
    exchange = ExchangeClient(settings.exchange_url, max_wait_s=_MAX_WAIT_S)
    start_ms, end_ms = to_ms(start), min(to_ms(end), exchange.server_time_ms())
    if start_ms >= end_ms:
        raise InputError("--from is not before --to, or is in the future: move them apart", field="from")
    downloads = {pair: Download(pair, length, start_ms, end_ms, out) for pair in chosen}
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


def backtest(
    start: Annotated[datetime, typer.Option("--from", help="first window opens (UTC)", formats=["%Y-%m-%d"])],
    end: Annotated[datetime, typer.Option("--to", help="last window closes (UTC)", formats=["%Y-%m-%d"])],
    pairs: Annotated[str, typer.Option(help="comma separated; none: all of --candles")] = "",
    every: Annotated[str, typer.Option(help="length of a window, such as 5w, 35d or 840h")] = "5w",
    model: Annotated[str, typer.Option(help="architecture: lstm, gru, linear, patchtst, level_mse")] = "lstm",
    interval: Annotated[
        str,
        typer.Option(help="15m, 1h, 4h or 1d, made from shorter candles if need be; none: the first of MUR_INTERVALS"),
    ] = "",
    candles: Annotated[
        Path | None, typer.Option(help="folder of klines (BTCUSDT.parquet …) that the cluster sees; none: S3's")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="file for every forecast (parquet); the report gets the same name and .html")
    ] = Path("backtest.parquet"),
) -> None:
    """Train on the year before each window, forecast the window, and compare the forecasts with the baselines."""
    settings = settings_here()
    chosen = split_pairs(pairs)
    if not chosen and candles is None:
        raise InputError("--pairs: name some, such as btc_usdt,eth_usdt, or a folder by --candles", field="pairs")
    length = Interval.parse(interval) if interval else settings.default_interval
    windows = windows_between(to_ms(start), to_ms(end), duration_ms(every), length)
    console.print(f"{len(windows)} windows of {every}, each trained on the time before it")
    arguments = ["--from", f"{start:%Y-%m-%d}", "--to", f"{end:%Y-%m-%d}", "--every", every]
    arguments += ["--interval", length, "--model", model]
    arguments += ["--pairs", ",".join(chosen)] if chosen else []
    arguments += ["--candles", str(candles.resolve())] if candles else []
    out.resolve().parent.mkdir(parents=True, exist_ok=True)
    asyncio.run(_run(arguments, out, settings))
    console.print(f"{out} has every forecast, {out.with_suffix('.html')} the report")


async def _run(arguments: Sequence[str], out: Path, settings: Settings) -> None:
    from make_us_rich.pipeline.ray_jobs import RayJobsClient, RayUnreachable

    submission_id = f"backtest-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
    upload = f"backtests/{submission_id}"
    command = ["python", "-m", "ray_jobs.backtest", *arguments]
    async with RayJobsClient(settings.ray_url, settings.ray_token.get_secret_value()) as ray:
        try:
            await ray.find(submission_id)
        except RayUnreachable:
            console.print(f"no Ray cluster answers at {settings.ray_url}: running on this machine")
            _run_here([sys.executable, *command[1:], "--out", str(out)])
            return
        await ray.submit(submission_id, shlex.join([*command, "--upload", upload]), {"kind": "backtest"})
        job = await _follow(ray, submission_id)
    if job.status != "SUCCEEDED":
        raise command_error(f"Ray job {submission_id} {job.status}: {job.message}")
    _download(settings, upload, out)


def _run_here(command: Sequence[str]) -> None:
    from make_us_rich.forecasting import backtest  # noqa: F401  (says which extra is missing)

    done = subprocess.run(command, check=False)
    if done.returncode == MISTAKE:
        raise typer.Exit(MISTAKE)  # its message is printed
    if done.returncode != 0:
        raise command_error("the backtest ended with an error, printed above")


async def _follow(ray: RayJobsClient, submission_id: str) -> RayJob:
    """Print the job's log until it ends, and return the job. Ctrl-C stops the job too."""
    printed = 0
    try:
        while True:
            job = await ray.find(submission_id)
            lines = (await ray.logs(submission_id)).splitlines()
            for line in lines[printed:]:
                console.print(line, markup=False, soft_wrap=True)
            printed = len(lines)
            if job is None:
                raise command_error(f"Ray does not know job {submission_id} any more: its head was restarted")
            if not job.is_active:
                return job
            await asyncio.sleep(_POLL_S)
    except asyncio.CancelledError:
        await ray.stop(submission_id)
        raise


def _download(settings: Settings, folder: str, out: Path) -> None:
    from make_us_rich.market.object_store import ObjectStore
    from make_us_rich.pipeline.ray_jobs import BACKTEST_FORECASTS, BACKTEST_REPORT

    store = ObjectStore.from_settings(settings)
    for name, path in ((BACKTEST_FORECASTS, out), (BACKTEST_REPORT, out.with_suffix(".html"))):
        found = store.get(f"{folder}/{name}")
        if found is None:
            raise command_error(f"the job left no {folder}/{name} in S3: see its log in the Ray dashboard")
        path.write_bytes(found.content)
