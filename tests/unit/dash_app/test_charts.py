"""The texts of the public charts."""

from __future__ import annotations

import re

import pytest

from dash_app.public.charts import fan, skill_text, skills
from make_us_rich.core.interval import HOUR_MS
from make_us_rich.database.forecasts import ServedForecast
from make_us_rich.record.figures import MeasuredSkill


@pytest.mark.parametrize(
    ("value", "margin", "written"),
    [
        (0.0004, 0.0003, "against GARCH +0.04 % ± 0.03 %"),
        (-0.00004, None, "against GARCH \N{MINUS SIGN}0.004 %"),
        (0.061, 0.012, "against GARCH +6.1 % ± 1.2 %"),
        (-0.21, 0.1, "against GARCH \N{MINUS SIGN}21 % ± 10 %"),
    ],
)
def test_a_small_skill_is_not_written_as_zero(value: float, margin: float | None, written: str) -> None:
    each = MeasuredSkill("GARCH", value, margin, 1000)
    assert skill_text(each).replace("\u00a0", " ") == written
    assert written in skills([each]).replace("\u00a0", " ")


@pytest.mark.parametrize("count", [1, 2, 5, 48])
@pytest.mark.parametrize("horizons", [1, 24])
@pytest.mark.parametrize("narrow", [False, True])
def test_the_times_below_the_fan_stay_inside_the_chart_and_apart(count: int, horizons: int, narrow: bool) -> None:
    """Right after the installation the fan begins at the left edge."""
    prices = [[97.0, 98.0, 99.0, 100.0, 101.0, 102.0, 103.0]] * horizons
    past = [ServedForecast(1_700_000_000_000 + hour * HOUR_MS, 100.0, prices) for hour in range(count)]
    drawn = str(fan(past, HOUR_MS, "", narrow=narrow))

    width = 360 if narrow else 720
    (at,) = re.findall(r'x="([\d.]+)" y="[\d.]+" text-anchor="middle">\d\d \w{3} \d\d:\d\d UTC', drawn)
    ((end, ahead),) = re.findall(r'x="([\d.]+)" y="[\d.]+" text-anchor="end">(\+[\w ]+)<', drawn)
    assert float(at) - 50 >= 0, "half of a time has 50 units"
    assert float(at) + 50 <= float(end) - 6.5 * len(ahead) < width
