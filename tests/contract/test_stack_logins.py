"""The passwords that `mkrich up` prints are those with which a person can log in."""

from __future__ import annotations

from pathlib import Path

import pytest

from make_us_rich.accounts import ADMIN as ADMIN_ROLE
from make_us_rich.accounts import Accounts
from make_us_rich.accounts.audit import AuditLog
from make_us_rich.database.pool import Database
from make_us_rich.embedded import demo
from make_us_rich.embedded.environment import ADMIN, DEMO_USER
from make_us_rich.embedded.lifecycle import open_stack
from make_us_rich.embedded.stack_config import StackConfig
from tests.support.servers import migrated_database


def test_a_password_that_is_another_one_by_now_is_not_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = open_stack(StackConfig("simulated", tmp_path / "simulated"))
    printed = f"{ADMIN} / {stack.secrets.admin_password}"
    with migrated_database() as url, Accounts(Database(url)) as accounts:
        monkeypatch.setattr(demo, "database_url", lambda *_: url)
        accounts.users.ensure(ADMIN, stack.secrets.admin_password, role=ADMIN_ROLE)
        accounts.users.ensure(DEMO_USER, stack.secrets.demo_password)
        written = len(AuditLog(accounts.database).entries())
        first = demo.dashboard_login(stack, ADMIN)
        assert len(AuditLog(accounts.database).entries()) == written, "a look at a password counts as a log-in"

        accounts.users.reset(ADMIN, "a long and winding password", role=ADMIN_ROLE)
        after = demo.dashboard_login(stack, ADMIN)
        other = demo.dashboard_login(stack, DEMO_USER)

    assert first == printed
    assert stack.secrets.admin_password not in after
    assert after.startswith(f"{ADMIN} / (changed")
    assert other == f"{DEMO_USER} / {stack.secrets.demo_password}"
