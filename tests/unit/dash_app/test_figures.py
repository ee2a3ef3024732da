"""The losses and the usage as figures."""

from __future__ import annotations

from datetime import date

import pytest

from dash_app.components.figures import loss_figure, usage_figure


def test_loss_curves_differ_by_dash_and_not_only_by_colour() -> None:
    figure = loss_figure({"train_loss": [3.0, 2.0, 1.0], "validation_loss": [3.0, 2.5]})

    assert [trace.line.dash for trace in figure.data] == ["solid", "dash"]


@pytest.mark.parametrize("most", [0, 1, 2, 3, 4, 12, 4321])
def test_the_axis_of_calls_counts_in_whole_numbers(most: int) -> None:
    """Plotly divides a range of two calls into halves and rounds the labels: 0 1 1 2 2."""
    axis = usage_figure({date(2026, 11, 3): most}, [date(2026, 11, day) for day in range(1, 31)]).layout.yaxis

    assert axis.dtick == 1 if most < 4 else axis.nticks == 5
    assert axis.range is None or axis.range[1] > most


def test_a_day_without_calls_has_a_bar_of_zero() -> None:
    days = [date(2026, 11, day) for day in range(1, 31)]
    figure = usage_figure({date(2026, 11, 3): 12}, days)

    assert list(figure.data[0].y)[:4] == [0, 0, 12, 0]
