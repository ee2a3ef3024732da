"""The figures of the backtest in README and docs, written from the stored result of `make bench-forecast`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from textwrap import fill

from infra.markdown import replace_generated, table
from make_us_rich.core.times import from_ms
from make_us_rich.documents import HORIZONS, BacktestResult, BaselineSkill, HorizonResult
from make_us_rich.forecasting.evaluation import random_walk_inside
from make_us_rich.forecasting.report import TITLES

_ROOT = Path(__file__).resolve().parents[1]
RESULT = _ROOT / "docs" / "reference" / "forecast_results.json"
_CLEAR_T = 2.0  # beyond chance
_WIDTH = 130
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def stored_result() -> BacktestResult:
    """Read the stored result."""
    return BacktestResult.model_validate_json(RESULT.read_text())


def forecast_pages(result: BacktestResult) -> dict[Path, str]:
    """Return the pages that quote the result, with their figures renewed."""
    parts = {
        _ROOT / "README.md": {"skill": _summary(result)},
        _ROOT / "docs" / "explanation" / "forecasting.md": {"skill": _details(result)},
        _ROOT / "docs" / "faq.md": {"direction": _direction(result)},
    }
    pages = {}
    for page, contents in parts.items():
        text = page.read_text()
        for name, content in contents.items():
            text = replace_generated(text, name, "\n\n".join(map(_wrapped, content.split("\n\n"))))
        pages[page] = text
    return pages


def _summary(result: BacktestResult) -> str:
    covered = _listed(_percent(item.coverage_80, 1) for item in result.horizons)
    nearest = result.horizons[0].mae_gain
    return "\n\n".join(
        (
            f"Pinball loss saved against each baseline, by candles ahead, with its t in brackets. {_data(result)}",
            _skills(result),
            f"The 80 % band contains {covered} of the closes {_horizons(result)} candles ahead. At the next close the "
            f"median's error is {_percent(abs(nearest), 2)} {'smaller' if nearest > 0 else 'larger'} than that of "
            f'"the price stays". {_verdict(result)}',
        )
    )


def _details(result: BacktestResult) -> str:
    facts: list[tuple[str, Callable[[HorizonResult], str]]] = [
        ("coverage of the 80 % band", lambda item: _percent(item.coverage_80, 1)),
        ("coverage of the 90 % band", lambda item: _percent(item.coverage_90, 1)),
        (
            "pair-windows whose 80 % band covers less than 75 or more than 85 %",
            lambda item: _percent(item.uneven_coverage, 0),
        ),
        ("pair-windows won against GARCH-t", lambda item: _percent(item.skill("garch_t").won, 0)),
        ("MAE of the median, gain over naive", lambda item: _gain(item.mae_gain)),
        ("RMSE of the median, gain over naive", lambda item: _gain(item.rmse_gain)),
        ("direction right", lambda item: _percent(item.direction, 1)),
        ("Brier score of probabilities, gain over naive", lambda item: _gain(item.brier_gain)),
        ("Brier score of a rise, gain over naive", lambda item: _gain(item.brier_up_gain)),
        ("closes beyond the 1 % and 99 % points (2 % is right)", lambda item: _percent(item.beyond_1, 1)),
    ]
    rows = [(name, *(write(item) for item in result.horizons)) for name, write in facts]
    parts = [
        f"{_data(result)} Measured on {result.measured} by `make bench-forecast`. Skill, with its t in brackets, by "
        "candles ahead:",
        _skills(result),
        table(("of the model", *(str(item.horizon) for item in result.horizons)), rows),
    ]
    if result.inside_throughout is not None:
        parts.append(
            f"{_percent(result.inside_throughout, 1)} of the paths over {HORIZONS} hours stay inside the 80 % band "
            "throughout. A close leaves its own band in one case of five, so most paths leave it somewhere; of "
            f"Gaussian random walks {_percent(random_walk_inside(HORIZONS), 1)} stay inside."
        )
    return "\n\n".join([*parts, _verdict(result)])


def _direction(result: BacktestResult) -> str:
    right = _percent(result.horizons[0].direction, 1)
    return (
        f"Do not expect it. The median is right about the direction in {right} of the hours, and no trading was "
        "simulated. The project places no orders. Its forecasts are about uncertainty: how far the price may move "
        "within the next hours. [The forecasting method](explanation/forecasting.md) has all figures."
    )


def _data(result: BacktestResult) -> str:
    days = [from_ms(time_ms).date() for time_ms in result.windows_from_ms]
    end_ms = result.windows_from_ms[-1] + result.window_candles * result.interval.ms
    end = from_ms(end_ms).date()
    weeks = result.window_candles * result.interval.ms // (7 * 86_400_000)
    return (
        f"{_NUMBERS[len(result.candles)].capitalize()} pairs of Binance, hourly; {_NUMBERS[len(days)]} separate "
        f"windows of {_NUMBERS[weeks]} weeks between {days[0]} and {end}, of which no model saw anything in training; "
        f"{result.pair_windows} pair-windows of {result.window_candles} hours."
    )


def _skills(result: BacktestResult) -> str:
    rows = [
        (TITLES[first.baseline], *(_skill(item.skill(first.baseline)) for item in result.horizons))
        for first in result.horizons[0].skills
    ]
    return table(("baseline", *(str(item.horizon) for item in result.horizons)), rows)


def _verdict(result: BacktestResult) -> str:
    """Say which baselines are better, and where there is no difference beyond chance."""
    better = _where(result, lambda skill: skill.t < -_CLEAR_T)
    even = _where(result, lambda skill: abs(skill.t) <= _CLEAR_T)
    first = f"Better than the model beyond chance: {better}." if better else "No baseline is better beyond chance."
    return f"{first} No difference beyond chance (t between -2 and 2): {even}." if even else first


def _where(result: BacktestResult, chosen: Callable[[BaselineSkill], bool]) -> str:
    """Return the baselines that are chosen, each with its horizons."""
    found = []
    for name, title in TITLES.items():
        horizons = [str(item.horizon) for item in result.horizons if chosen(item.skill(name))]
        if horizons:
            found.append(f"*{title}* at {_listed(horizons)}")
    return "; ".join(found)


def _skill(skill: BaselineSkill) -> str:
    return f"{_gain(skill.skill)} ({skill.t:.1f})"


def _gain(value: float) -> str:
    return f"{100 * value:+.2f} %"


def _percent(value: float, digits: int) -> str:
    return f"{100 * value:.{digits}f} %"


def _horizons(result: BacktestResult) -> str:
    return _listed(str(item.horizon) for item in result.horizons)


def _listed(texts: Iterable[str]) -> str:
    *most, last = texts
    return f"{', '.join(most)} and {last}" if most else last


def _wrapped(paragraph: str) -> str:
    is_table = paragraph.startswith("|")
    return paragraph if is_table else fill(paragraph, _WIDTH, break_long_words=False, break_on_hyphens=False)
