"""What the models page shows of a version: the metrics in words, and the decisions as marks."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dash_app.components.model_history import VersionPoint, history_figure
from dash_app.components.model_metrics import METRICS, metrics_table
from dash_app.pages.models.layout import version_row
from make_us_rich.forecasting.evaluation import HoldoutForecasts, metrics, pinball
from make_us_rich.registry.client import (
    TAG_ARCHITECTURE,
    TAG_COVERAGE_80,
    TAG_SKILL_VS_NAIVE,
    ModelVersion,
    TrainingRun,
)


def _holdout(scale: float) -> HoldoutForecasts:
    target = np.random.default_rng(0).normal(0, 0.01, (200, 4))
    quantiles = np.broadcast_to(np.linspace(-scale, scale, 7), (200, 4, 7)).copy()
    return HoldoutForecasts(np.arange(200) * 3_600_000, quantiles, target, pinball(quantiles, target))


def test_every_explained_metric_is_one_that_training_logs() -> None:
    logged = metrics(_holdout(0.015), _holdout(0.03))
    assert set(METRICS) <= set(logged)

    run = TrainingRun("run", "uri", "1", {"architecture": "lstm"}, logged)
    text = json.dumps(metrics_table(run).to_plotly_json(), default=lambda each: each.to_plotly_json())
    skill = f"{logged['skill_vs_naive']:+.1%} ± {logged['skill_margin']:.1%}".replace("%", " %")
    assert json.dumps(skill)[1:-1] in text


@pytest.mark.parametrize(
    ("decision", "mark"),
    [
        ("promoted: better by 1 %", "Promoted"),
        ("refused: not better", "Kept the champion"),
        ("promoted manually: by root", "Promoted"),
        ("replaced: by version 2, by root", "Rolled back"),
        ("none: a backfill promotes nothing", "No decision"),
    ],
)
def test_a_decision_is_a_mark_on_the_line_of_the_skill(decision: str, mark: str) -> None:
    points = [VersionPoint("2", 2, 0.03, 0.01, 0.79, decision), VersionPoint("1", 1, 0.02, None, None, decision)]
    skill, coverage, marks = history_figure(points).data

    assert (list(skill.y), list(skill.error_y.array), list(coverage.y)) == ([0.02, 0.03], [0, 0.01], [None, 0.79])
    assert (marks.name, list(marks.y)) == (mark, [0.02, 0.03])


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ({"skill_vs_naive": 0.02}, {"skill_vs_naive": -0.02}),
        ({"skill_vs_naive_mean": 0.02}, {"skill_vs_naive_mean": -0.02}),
        ({"diebold_mariano_t_vs_naive": 3.0}, {"diebold_mariano_t_vs_naive": -3.0}),
        ({"coverage_80": 0.81}, {"coverage_80": 0.55}),
        ({"coverage_50": 0.49}, {"coverage_50": 0.7}),
        ({"coverage_90": 0.9}, {"coverage_90": 0.6}),
        ({"direction": 0.53}, {"direction": 0.47}),
        ({"pinball": 0.001, "pinball_naive": 0.0011}, {"pinball": 0.0012, "pinball_naive": 0.0011}),
        ({"mae": 0.001, "mae_naive": 0.0011}, {"mae": 0.0012, "mae_naive": 0.0011}),
    ],
)
def test_a_metric_that_fails_is_marked_as_poor(good: dict[str, float], bad: dict[str, float]) -> None:
    assert _marks(good) == 0
    assert _marks(bad) == 1


def _marks(logged: dict[str, float]) -> int:
    table = metrics_table(TrainingRun("run", "uri", "1", {}, logged))
    return json.dumps(table.to_plotly_json(), default=lambda each: each.to_plotly_json()).count('"poor"')


def test_a_small_skill_is_not_written_as_zero() -> None:
    tags = {TAG_SKILL_VS_NAIVE: "0.0004", TAG_COVERAGE_80: "0.7996", TAG_ARCHITECTURE: "lstm"}
    row = version_row(ModelVersion("btc_usdt_1h", 2, "", 0, tags), "", 0)
    assert (row["skill_text"], row["coverage_text"], row["architecture"]) == ("+0.04\u00a0%", "80\u00a0%", "LSTM")

    unknown = version_row(ModelVersion("btc_usdt_1h", 1, "", 0, {}), "", 0)
    assert (unknown["skill_text"], unknown["coverage_text"]) == ("–", "–")
