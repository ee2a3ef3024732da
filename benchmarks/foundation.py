"""Make the foundation that ships with the package again: its files, its model card and the card's page in docs.

    python -m benchmarks.foundation --candles DIR [DIR ...]

DIR holds klines as `mkrich candles download` makes them, from 2020-10-15 to 2022-12-31: those of the pairs in
`_COINS`, which it learns from, and of those in `_NEW_COINS`. It learns from the candles before `_AS_OF_MS` by the
recipe of train_foundation, and is scored, without fine-tuning, in the windows after it. The same candles, code,
libraries and processor give the same files.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import torch

from make_us_rich.core.errors import InputError
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import BITCOIN, Pair, foundation_name
from make_us_rich.documents import BaselineSkill, FoundationCard, FoundationScore
from make_us_rich.forecasting.architectures import TrainingConfig
from make_us_rich.forecasting.backtest import HorizonSummary, compare_with_baselines, summarise
from make_us_rich.forecasting.dataset import prepare
from make_us_rich.forecasting.onnx_model import OnnxModel
from make_us_rich.forecasting.recipe import evaluate_model, fit_foundation
from make_us_rich.forecasting.training import TrainingTask
from make_us_rich.market.candles import Candles
from make_us_rich.market.recordings import klines_path, read_resampled
from make_us_rich.registry import shipped
from make_us_rich.registry.model_card import page
from make_us_rich.registry.publish import version_tags

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "foundation.md"
_INTERVAL = Interval.H1
_COINS = "aave ada algo axs bch bnb btc doge eos eth fil link ltc sol theta vet"
_NEW_COINS = "chz egld icp mana xrp"  # an arbitrary choice, for the score of pairs that the model never saw
PAIRS, NEW_PAIRS = ([Pair(coin, "usdt") for coin in coins.split()] for coins in (_COINS, _NEW_COINS))
_AS_OF_MS = int(datetime(2022, 10, 8, tzinfo=UTC).timestamp() * 1000)
_WINDOW = 672  # candles: four weeks
_WINDOWS_MS = [_AS_OF_MS + number * _WINDOW * _INTERVAL.ms for number in range(3)]
BASELINES = ("naive", "ewma", "garch_t")
_FROM, _TO = "2020-10-15", "2023-01-01"


def main() -> None:
    torch.set_num_threads(1)
    candles = read(_folders(), [*PAIRS, *NEW_PAIRS])
    config, as_of_ms = TrainingConfig.of(_INTERVAL), _AS_OF_MS
    began_s = time.process_time()
    fitted = fit_foundation({pair: candles[pair] for pair in PAIRS}, candles[BITCOIN], TrainingTask(as_of_ms, config))
    print(f"trained in {time.process_time() - began_s:.0f} CPU seconds", flush=True)
    card = FoundationCard(
        interval=_INTERVAL,
        as_of_ms=as_of_ms,
        market="binance",
        architecture=config.architecture,
        pairs=tuple(PAIRS),
        candles_from_ms=as_of_ms - (config.holdout + config.training) * _INTERVAL.ms,
        command=f"{shipped.MAKE_AGAIN} CANDLES=DIR",
        digest=shipped.digest(fitted.weights, fitted.onnx),
        tags=version_tags(fitted, as_of_ms, "binance"),
        params={key: str(value) for key, value in fitted.params.items()},
        metrics=fitted.metrics,
        windows_from_ms=tuple(_WINDOWS_MS),
        windows_until_ms=_WINDOWS_MS[-1] + _WINDOW * _INTERVAL.ms,
        scores=tuple(
            chain.from_iterable(
                score(fitted.onnx, candles, pairs, learned=learned)
                for pairs, learned in ((PAIRS, True), (NEW_PAIRS, False))
            )
        ),
    )
    shipped.write(shipped.ShippedFoundation(fitted.weights, fitted.onnx, card))
    PAGE.write_text(page(card))
    size = sum(path.stat().st_size for path in shipped.FOLDER.iterdir())
    print(f"{shipped.FOLDER}: {size / 1000:.0f} kB; {time.process_time() - began_s:.0f} CPU seconds in all")


def score(
    graph: bytes,
    candles: Mapping[Pair, Candles],
    pairs: Sequence[Pair],
    *,
    learned: bool,
    baselines: Sequence[str] = BASELINES,
) -> list[FoundationScore]:
    """Score a model in each window and pair, at each of HORIZONS_COMPARED. `candles`: with Bitcoin's."""
    tails = OnnxModel.load(graph, foundation_name(_INTERVAL)).tails
    config = replace(TrainingConfig.of(_INTERVAL), holdout=_WINDOW)
    results = []
    for start_ms in _WINDOWS_MS:
        for pair in pairs:
            prepared = prepare(candles[pair], candles[BITCOIN], TrainingTask(start_ms + _WINDOW * _INTERVAL.ms, config))
            forecasts = evaluate_model(graph, prepared, interval=_INTERVAL)
            results.append(
                compare_with_baselines(
                    prepared, forecasts, tails, pair=pair, start_ms=start_ms, interval=_INTERVAL, names=baselines
                )
            )
    summary = summarise(results)
    return [_document(item, pairs, summary.windows, learned) for item in summary.horizons]


def _document(item: HorizonSummary, pairs: Sequence[Pair], windows: int, learned: bool) -> FoundationScore:
    return FoundationScore(
        learned=learned,
        pairs=tuple(pairs),
        windows=windows,
        horizon=item.horizon,
        skills=tuple(
            BaselineSkill(baseline=each.baseline, skill=each.skill, t=each.t, won=each.won) for each in item.skills
        ),
        coverage_80=item.coverage_80,
    )


def read(folders: Sequence[Path], pairs: Sequence[Pair]) -> dict[Pair, Candles]:
    """Read the candles of the pairs. Exits with the command that downloads them when some are missing."""
    found, missing = {}, []
    for pair in pairs:
        path = next((path for folder in folders if (path := klines_path(folder, pair)).is_file()), None)
        if path is None:
            missing.append(pair)
            continue
        try:
            found[pair] = read_resampled(path, _INTERVAL)
        except InputError as error:
            raise SystemExit(str(error)) from None
    if missing:
        raise SystemExit(
            f"there are no klines of {', '.join(missing)}. Download them, and run this again:\n\n"
            f"    .venv/bin/mkrich candles download --pairs {','.join(missing)} --from {_FROM} --to {_TO} "
            f"--out {folders[0]}"
        )
    return found


def _folders() -> list[Path]:
    parser = argparse.ArgumentParser(description="make the foundation that ships with the package again")
    parser.add_argument(
        "--candles",
        type=Path,
        nargs="+",
        default=[Path("data/klines-1h")],
        help="folders of klines; by default data/klines-1h",
    )
    folders: list[Path] = parser.parse_args().candles
    return folders


if __name__ == "__main__":
    main()
