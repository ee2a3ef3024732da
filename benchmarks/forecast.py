"""The quality of the forecasts out of sample, compared with the baselines; with --cost, what one forecast costs.

    python -m benchmarks.forecast [--candles DIR] [--pairs btc_usdt,...] [--interval 1h] [--model lstm]
        [--from-scratch | --untrained chz_usdt,...] [--first-day 2023-01-01 --count 10]
    python -m benchmarks.forecast --store [--candles DIR]
    python -m benchmarks.forecast --cost [--candles DIR] [--interval 1h]

Quality: trains on the year before each of five disjoint five-week windows. Design choices were made on the five-week
windows between them (--windows choose). The reported windows were read once before the last choice, so they are not
completely untouched (see docs/explanation/forecasting.md). --first-day takes consecutive windows from a day on. Other
intervals have windows of their own; only the longest volatility of 4h was chosen, on --windows choose. Shorter candles
are resampled to the interval, so 15m needs a folder of 15m or 5m candles. Finished windows are kept in
data/backtest-windows until the run ends: after an interruption the same command goes on where it stopped.

--store writes the result to docs/reference/forecast_results.json, and the pages that quote it: see
infra/forecast_pages.py.

Cost: features, training, fine-tuning with export and checks, and one inference, on one thread.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import pickle
import statistics
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow.parquet as pq
import torch

from infra.forecast_pages import RESULT, forecast_pages
from make_us_rich import forecasting
from make_us_rich.core.arguments import argument, parse_pairs
from make_us_rich.core.errors import BadCandles, InputError
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import BITCOIN, Pair
from make_us_rich.documents import HORIZON_GRID, BacktestResult, BaselineSkill, HorizonResult
from make_us_rich.forecasting.architectures import TrainingConfig, context_length
from make_us_rich.forecasting.backtest import (
    HORIZONS_COMPARED,
    WINDOW,
    HorizonSummary,
    Summary,
    WindowResult,
    backtest_window,
    forecasts_table,
    summarise,
)
from make_us_rich.forecasting.features import feature_layout, sequence_features
from make_us_rich.forecasting.onnx_model import OnnxModel, candle_array
from make_us_rich.forecasting.recipe import fit, fit_foundation
from make_us_rich.forecasting.report import html_report, line, table
from make_us_rich.forecasting.training import TrainingTask
from make_us_rich.market.candles import Candles
from make_us_rich.market.recordings import digest, read_recorded, recorded_pairs

_DATA = Path(__file__).parents[1] / "data"
_CANDLES, _KEPT = _DATA / "klines-1h", _DATA / "backtest-windows"
# the download of the figures in docs/explanation/forecasting.md
_COINS = "ada bnb btc chz doge eth link ltc sol xrp"
_FROM, _TO = "2020-10-15", "2023-01-01"
_ETHER = Pair("eth", "usdt")
_FEATURE_CANDLES = 8749
_INFERENCES = 2000


@dataclass(frozen=True)
class _Windows:
    """Consecutive windows of so many candles from the day `first`, and the numbers of those that are used."""

    first: str
    candles: int
    report: range = range(1, 11, 2)
    choose: range = range(0, 11, 2)

    def starts_ms(self, purpose: str, interval: Interval) -> list[int]:
        first_ms = int(datetime.fromisoformat(self.first).replace(tzinfo=UTC).timestamp() * 1000)
        numbers = self.report if purpose == "report" else self.choose
        return [first_ms + number * self.candles * interval.ms for number in numbers]


_WINDOWS = {
    Interval.M15: _Windows("2022-05-02", 672),
    Interval.H1: _Windows("2021-11-22", WINDOW),
    Interval.H4: _Windows("2021-11-22", 210),
    Interval.D1: _Windows("2021-11-22", 70, report=range(5), choose=range(5)),  # all that fit into two years of candles
}


def main() -> None:
    args = _arguments()
    torch.set_num_threads(1)
    if args.cost:
        _measure_cost(args.candles, args.interval)
    else:
        _measure_quality(args)


def _measure_quality(args: argparse.Namespace) -> None:
    config = TrainingConfig.of(args.interval, args.model)
    pairs = list(args.pairs or ())
    candles = _read_candles(args.candles, args.interval, pairs)
    if unknown := set(args.untrained) - candles.keys():
        raise SystemExit(f"--untrained: {', '.join(sorted(unknown))} is not among the pairs: {', '.join(candles)}")
    (reference,) = _read_candles(args.candles, args.interval, [BITCOIN]).values()
    digests = {str(pair): digest(each) for pair, each in candles.items()}
    began_s = time.perf_counter()
    windows = _WINDOWS[args.interval]
    if args.first_day:
        windows = replace(windows, first=args.first_day, report=range(args.count), choose=range(args.count))
    starts_ms = windows.starts_ms(args.windows, args.interval)
    kept = _KeptWindows(config, windows.candles, args.from_scratch, sorted(args.untrained), args.horizons, digests)
    results = []
    for start_ms in starts_ms:
        found = kept.read(start_ms)
        if found is None:
            found = backtest_window(
                candles,
                reference,
                interval=args.interval,
                start_ms=start_ms,
                config=config,
                window=windows.candles,
                foundation=not args.from_scratch,
                untrained=args.untrained,
                horizons=args.horizons,
                on_result=lambda result: print(line(result), flush=True),
            )
            kept.write(start_ms, found)
        results += found
    summary = summarise(results)
    print(f"\n{table(summary)}\n\n{time.perf_counter() - began_s:.0f} s in all")
    if args.out:
        pq.write_table(forecasts_table(results, candles, args.interval, args.model), args.out)
    if args.report:
        args.report.write_text(html_report(results, candles, args.interval))
    if args.store:
        _store(summary, config, digests, starts_ms, windows.candles)
    kept.delete()


class _KeptWindows:
    """Finished windows of this run, in files, so that a run that was interrupted goes on where it stopped.

    Their names have a hash of all that the results depend on, the code of the forecasts among it. They are pickled:
    nothing but this program writes or reads them.
    """

    def __init__(self, *inputs: object) -> None:
        code = [path.read_text() for path in sorted(Path(forecasting.__path__[0]).glob("*.py"))]
        self._name = hashlib.sha256(repr((inputs, code)).encode()).hexdigest()[:16]

    def read(self, start_ms: int) -> list[WindowResult] | None:
        path = self._path(start_ms)
        found: list[WindowResult] | None = pickle.loads(path.read_bytes()) if path.is_file() else None
        return found

    def write(self, start_ms: int, results: list[WindowResult]) -> None:
        _KEPT.mkdir(parents=True, exist_ok=True)
        beside = self._path(start_ms).with_suffix(".part")
        beside.write_bytes(pickle.dumps(results))
        beside.replace(self._path(start_ms))

    def delete(self) -> None:
        for path in _KEPT.glob(f"{self._name}-*"):
            path.unlink()

    def _path(self, start_ms: int) -> Path:
        return _KEPT / f"{self._name}-{start_ms}.pickle"


def _store(
    summary: Summary, config: TrainingConfig, digests: dict[str, str], starts_ms: list[int], window: int
) -> None:
    """Store the result, and write the pages that quote it."""
    result = BacktestResult(
        measured=datetime.now(UTC).date().isoformat(),
        interval=config.interval,
        recipe=asdict(config),
        candles=digests,
        windows_from_ms=tuple(starts_ms),
        window_candles=window,
        pair_windows=summary.windows,
        horizons=tuple(_horizon_result(item) for item in summary.horizons),
        inside_throughout=summary.inside_throughout,
    )
    RESULT.write_text(result.model_dump_json(indent=1) + "\n")
    for page, content in forecast_pages(result).items():
        page.write_text(content)


def _horizon_result(item: HorizonSummary) -> HorizonResult:
    score = item.probabilities
    return HorizonResult(
        horizon=item.horizon,
        skills=tuple(BaselineSkill(**asdict(each)) for each in item.skills),
        coverage_80=item.coverage_80,
        coverage_90=item.coverage_90,
        uneven_coverage=item.uneven_coverage,
        mae_gain=item.mae_gain,
        rmse_gain=item.rmse_gain,
        direction=item.direction,
        brier_gain=1 - score.brier / score.brier_naive,
        brier_up_gain=1 - score.brier_up / score.brier_up_naive,
        beyond_1=score.beyond_1,
    )


def _measure_cost(folder: Path, interval: Interval) -> None:
    bitcoin, ether = _read_candles(folder, interval, [BITCOIN, _ETHER]).values()
    as_of_ms = int(ether.open_time_ms[-1]) + interval.ms
    config, layout = TrainingConfig.of(interval), feature_layout(interval)

    array = torch.from_numpy(candle_array(ether[-_FEATURE_CANDLES - layout.warmup :]))[None]
    features_s = _cpu_seconds(lambda: sequence_features(array, array, layout), 20)
    print(f"features of {array.shape[1] - layout.warmup} candles: {features_s * 1e3:.1f} ms")

    foundation = fit_foundation({"btc_usdt": bitcoin, "eth_usdt": ether}, bitcoin, TrainingTask(as_of_ms, config))
    for name, weights in (("from scratch", None), ("fine-tuned", foundation.weights)):

        def train(weights: bytes | None = weights) -> None:
            fit(ether, bitcoin, pair="eth_usdt", task=TrainingTask(as_of_ms, config), foundation=weights)

        print(f"a pair {name}, with export and checks: {_cpu_seconds(train, 3):.2f} s of one core")

    newest = slice(-context_length(config), None)  # as serving keeps them
    inputs = {"candles": candle_array(ether[newest])[None], "reference": candle_array(bitcoin[newest])[None]}
    model = OnnxModel.load(foundation.onnx, f"foundation_{interval}")
    bare_s, served_s = _alternating_seconds(
        lambda: model.session.run(["quantiles"], inputs), lambda: model.quantiles(ether[newest], bitcoin[newest])
    )
    print(
        f"one inference: {bare_s * 1e3:.3f} ms in bare ONNX Runtime, {served_s * 1e3:.3f} ms from candles to checked "
        f"quantiles, {served_s / bare_s:.2f} times as long (p50); graph of {len(foundation.onnx) / 1024:.0f} KiB"
    )


def _read_candles(folder: Path, interval: Interval, pairs: Collection[Pair] = ()) -> dict[str, Candles]:
    """Read candles by pair, of all pairs in the folder by default.

    Exits with the command that downloads them when some are missing.
    """
    wanted = pairs or recorded_pairs(folder)
    try:
        if wanted:
            return read_recorded(folder, wanted, interval)
        missing = f"{folder} has no klines"
    except BadCandles as error:
        raise SystemExit(str(error)) from None
    except InputError as error:
        missing = str(error).partition(":")[0]
    names = ",".join(map(str, wanted)) or ",".join(f"{coin}_usdt" for coin in _COINS.split())
    raise SystemExit(
        f"{missing}. Download them, and run this again:\n\n"
        f"    .venv/bin/mkrich candles download --pairs {names} --from {_FROM} --to {_TO} --out {folder}"
    )


def _horizons(text: str) -> tuple[int, ...]:
    horizons = tuple(map(int, text.split(",")))
    if not set(horizons) <= set(HORIZON_GRID):
        raise argparse.ArgumentTypeError(f"choose from {', '.join(map(str, HORIZON_GRID))}")
    return horizons


def _day(text: str) -> str:
    return date.fromisoformat(text).isoformat()


def _cpu_seconds(work: Callable[[], object], times: int) -> float:
    """Return the median CPU time, which other processes of a shared machine do not change."""
    seconds = []
    for _ in range(times):
        began_s = time.process_time()
        work()
        seconds.append(time.process_time() - began_s)
    return statistics.median(seconds)


def _alternating_seconds(*works: Callable[[], object]) -> list[float]:
    """Return the median wall time of each, measured in turns, so that disturbances affect all alike."""
    seconds: list[list[float]] = [[] for _ in works]
    for _ in range(_INFERENCES):
        for spent, work in zip(seconds, works, strict=True):
            began_s = time.perf_counter()
            work()
            spent.append(time.perf_counter() - began_s)
    return [statistics.median(spent) for spent in seconds]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="quality of the forecasts, compared with the baselines; or their cost")
    parser.add_argument(
        "--candles",
        type=Path,
        default=Path(os.environ.get("CANDLES") or _CANDLES),
        help="folder of klines; by default the variable CANDLES, else data/klines-1h of the checkout",
    )
    parser.add_argument("--cost", action="store_true", help="measure what a forecast costs instead of its quality")
    parser.add_argument("--pairs", type=argument(parse_pairs), help="comma separated; by default every file")
    parser.add_argument("--model", default="lstm", help="architecture")
    foundation = parser.add_mutually_exclusive_group()
    foundation.add_argument("--from-scratch", action="store_true", help="no foundation model to fine-tune")
    foundation.add_argument(
        "--untrained",
        type=argument(parse_pairs),
        default=(),
        help="score these pairs alone: the foundation learns from the others, and is only adapted to these",
    )
    parser.add_argument(
        "--horizons",
        type=_horizons,
        default=HORIZONS_COMPARED,
        metavar="1,4,24",
        help=f"candles ahead to compare at, of {', '.join(map(str, HORIZON_GRID))}",
    )
    parser.add_argument("--interval", type=Interval, choices=_WINDOWS, default=Interval.H1)
    parser.add_argument("--windows", choices=("report", "choose"), default="report")
    parser.add_argument("--first-day", type=_day, metavar="DAY", help="take consecutive windows from this day (UTC) on")
    parser.add_argument("--count", type=int, default=1, help="how many, with --first-day")
    parser.add_argument("--store", action="store_true", help="write the stored result, and the pages that quote it")
    parser.add_argument("--out", type=Path, help="parquet file of every forecast")
    parser.add_argument("--report", type=Path, help="HTML file")
    args = parser.parse_args()
    changed = [
        name
        for name in ("pairs", "model", "from_scratch", "untrained", "horizons", "interval", "windows", "first_day")
        if getattr(args, name) != parser.get_default(name)
    ]
    if args.store and changed:
        parser.error(f"--store is for the shipped recipe over the reported windows: leave out {', '.join(changed)}")
    return args


if __name__ == "__main__":
    main()
