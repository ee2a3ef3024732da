"""The figures of the forecasts in README and docs are those of the stored result, which is of the shipped recipe."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks import forecast
from infra.forecast_pages import forecast_pages, stored_result
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import parse_symbol
from make_us_rich.documents import BacktestResult, BaselineSkill
from make_us_rich.forecasting.architectures import TrainingConfig
from make_us_rich.forecasting.backtest import BASELINES, HORIZONS_COMPARED, WindowResult
from make_us_rich.forecasting.baselines import LEAST_PAST, PAST_CANDLES
from tests.support.processes import PROJECT_ROOT

DOCS = PROJECT_ROOT / "docs"
AGAIN = "run `make bench-forecast`"


@pytest.fixture(scope="module")
def result() -> BacktestResult:
    return stored_result()


def test_the_pages_have_the_figures_of_the_stored_result(result: BacktestResult) -> None:
    old = [str(page) for page, content in forecast_pages(result).items() if page.read_text() != content]
    assert old == [], f"{AGAIN}, or `make docs` if the stored result is right"


def test_the_stored_result_is_of_the_shipped_recipe_and_the_listed_candles(result: BacktestResult) -> None:
    assert result.recipe == asdict(TrainingConfig.of(Interval.H1)), f"the recipe has changed: {AGAIN}"
    listed = json.loads((PROJECT_ROOT / "tests" / "recorded.json").read_text())["klines-1h"]["sha256"]
    assert result.candles == {str(parse_symbol(name)): value for name, value in listed.items()}, AGAIN
    assert list(result.windows_from_ms) == forecast._WINDOWS[Interval.H1].starts_ms("report", Interval.H1)
    assert result.pair_windows == len(result.candles) * len(result.windows_from_ms)
    assert tuple(item.horizon for item in result.horizons) == HORIZONS_COMPARED
    for item in result.horizons:
        assert tuple(skill.baseline for skill in item.skills) == BASELINES


@pytest.mark.parametrize("figure", ["coverage_80", "mae_gain", "direction"])
def test_another_figure_makes_another_page(result: BacktestResult, figure: str) -> None:
    nearest = result.horizons[0]
    moved = nearest.model_copy(update={figure: getattr(nearest, figure) + 0.01})
    pages = forecast_pages(result.model_copy(update={"horizons": (moved, *result.horizons[1:])}))
    assert [page.name for page, content in pages.items() if page.read_text() != content]


def test_the_verdict_names_what_is_better_and_what_may_be_chance(result: BacktestResult) -> None:
    def verdict(skill: float, t: float) -> str:
        skills = [BaselineSkill(baseline=name, skill=0.05, t=9, won=1) for name in BASELINES]
        skills[3] = skills[3].model_copy(update={"skill": skill, "t": t})
        horizons = (result.horizons[0].model_copy(update={"skills": tuple(skills)}),)
        pages = forecast_pages(result.model_copy(update={"horizons": horizons}))
        return " ".join(pages[PROJECT_ROOT / "README.md"].split())

    garch = "*GARCH(1,1)-t, filtered historical simulation* at 1"
    assert f"Better than the model beyond chance: {garch}." in verdict(-0.001, -2.1)
    unclear = f"No baseline is better beyond chance. No difference beyond chance (t between -2 and 2): {garch}."
    assert unclear in verdict(-0.001, -1.9)
    assert unclear in verdict(0.01, 1.9)
    assert garch not in verdict(0.01, 2.1)


def test_a_finished_window_is_kept_for_the_same_inputs_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "_KEPT", tmp_path / "kept")
    result = WindowResult("eth_usdt", 1, {}, {}, None, [])
    same, again, other = (forecast._KeptWindows(inputs) for inputs in ("recipe", "recipe", "another"))
    assert same.read(1) is None
    same.write(1, [result])
    (kept,) = again.read(1) or []
    assert (kept.pair, kept.start_ms) == ("eth_usdt", 1)
    assert again.read(2) is None
    assert other.read(1) is None
    other.delete()
    assert again.read(1)
    again.delete()
    assert again.read(1) is None


@pytest.mark.parametrize("option", ["--pairs=btc_usdt", "--model=linear", "--first-day=2023-01-01", "--from-scratch"])
def test_only_the_shipped_recipe_is_stored(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    monkeypatch.setattr("sys.argv", ["forecast", "--store", option])
    with pytest.raises(SystemExit):
        forecast.main()
    assert "--store is for the shipped recipe over the reported windows" in capsys.readouterr().err


def test_readme_quotes_the_tables_of_other_years() -> None:
    page = (DOCS / "explanation" / "forecasting.md").read_text()
    rows = re.findall(r"^\| ([AB]) \| (\d+) \| [^|]* \| [^|]* \| \+([\d.]+) %", page, flags=re.M)
    gains = {(series, int(horizon)): float(gain) for series, horizon, gain in rows}
    assert len(gains) == 8
    nearest, *far = (sorted(round(gains[series, horizon], 1) for series in "AB") for horizon in (1, 24))
    text = " ".join((PROJECT_ROOT / "README.md").read_text().split())
    assert (
        f"saves {nearest[0]} % of GARCH's loss at the next close and {far[0][0]} to {far[0][1]} % at 24 candles" in text
    )
    assert nearest[0] == nearest[1]


def test_pages_name_the_candles_that_the_baselines_are_fitted_on() -> None:
    names = ("explanation/forecasting.md", "explanation/track-record.md", "reference/api.md", "reference/glossary.md")
    assert [
        name for name in names if f"{PAST_CANDLES:,} candles" not in " ".join((DOCS / name).read_text().split())
    ] == []
    api = " ".join((DOCS / "reference" / "api.md").read_text().split())
    assert f"Naive needs {LEAST_PAST['naive']} returns before the day (UTC), EWMA {LEAST_PAST['ewma']}" in api
