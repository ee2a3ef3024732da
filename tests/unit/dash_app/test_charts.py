"""The texts of the public charts."""

from __future__ import annotations

import pytest

from dash_app.public.charts import skill_text, skills
from make_us_rich.operations.track_record import Skill


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
    each = Skill("GARCH", value, margin, 1000)
    assert skill_text(each).replace("\u00a0", " ") == written
    assert written in skills([each]).replace("\u00a0", " ")
