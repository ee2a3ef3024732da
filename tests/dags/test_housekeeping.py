"""A real run of housekeeping: a dry run lists what is old, the next one deletes it."""

from __future__ import annotations

import pytest

from tests.support.accounts import transaction
from tests.support.airflow_runs import DagEnvironment

pytestmark = pytest.mark.timeout(400)


def test_old_rows_are_listed_by_a_dry_run_and_deleted_after_it(world: DagEnvironment) -> None:
    with transaction(world.database_url) as cursor:
        cursor.execute(
            "INSERT INTO audit_log (at, actor, action, subject) VALUES"
            " (now() - interval '401 days', 'grace', 'park pair', 'old'),"
            " (now() - interval '399 days', 'grace', 'park pair', 'young')"
        )

    forms = {}, {"dry_run": False, "keep_audit_days": 500}, {"dry_run": False}
    rehearsal, longer, deletion = (world.run("housekeeping", form) for form in forms)

    assert {run.state for run in (rehearsal, longer, deletion)} == {"success"}, deletion.states
    assert "audit_log: 1 rows to delete" in rehearsal.log
    assert "audit_log: 0 rows deleted" in longer.log
    assert "audit_log: 1 rows deleted" in deletion.log
    with transaction(world.database_url) as cursor:
        cursor.execute("SELECT subject FROM audit_log WHERE actor = 'grace'")
        assert cursor.fetchall() == [("young",)]
