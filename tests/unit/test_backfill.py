"""A backfill trains the pairs that it names, and is refused without any."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from dags.support import run_scope
from dags.support.alerts import RunRefused
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import BITCOIN
from make_us_rich.documents import RunItem


def planned(monkeypatch: pytest.MonkeyPatch, run_type: str, pairs: list[str]) -> list[RunItem]:
    """Plan a run of this type and form while only BTC is active."""
    run = SimpleNamespace(run_type=run_type, run_after=datetime(2026, 1, 1, tzinfo=UTC), conf={})
    params = {"pairs": pairs, "as_of": None}
    context = {"params": params, "dag_run": run, "dag": SimpleNamespace(params=params)}
    monkeypatch.setattr(run_scope, "get_current_context", lambda: context)
    active = SimpleNamespace(pair=BITCOIN, active=True)
    monkeypatch.setattr(run_scope.pairs_table, "tracked", lambda _: [active])
    return run_scope.planned(Interval.H1, backfill_of_all=False)


def test_a_backfill_without_pairs_is_refused_instead_of_training_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the box of Airflow's form is not ticked: the form is ignored then."""
    with pytest.raises(RunRefused, match=r"parameter pairs: a backfill names its pairs.*'Override parameters"):
        planned(monkeypatch, "backfill", [])


@pytest.mark.parametrize(("run_type", "pairs"), [("backfill", ["btc_usdt"]), ("scheduled", [])])
def test_other_runs_are_planned(monkeypatch: pytest.MonkeyPatch, run_type: str, pairs: list[str]) -> None:
    assert [item.pair for item in planned(monkeypatch, run_type, pairs)] == ["btc_usdt"]
