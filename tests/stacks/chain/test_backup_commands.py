"""`mkrich up --stores`, `mkrich backup` and `mkrich restore` on the stores of an embedded stack."""

from __future__ import annotations

import shutil
from pathlib import Path

from make_us_rich.accounts import Accounts
from make_us_rich.database.migrations import migrate
from make_us_rich.database.pool import Database
from tests.support.embedded_stack import EmbeddedStack, embedded_stack


def _only_stores(stack: EmbeddedStack) -> None:
    stack.did("up", "--stores")


def test_a_new_stack_gets_what_another_one_saved(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    with embedded_stack("simulated", {}, start=_only_stores) as stack:
        assert stack.running_programs() == {"postgres", "s3"}
        migrate(stack.database_url)
        with Accounts(Database(stack.database_url)) as accounts:
            accounts.users.create("grace", "a long and winding password")
        stack.bucket().put("candles/a", b"content")

        saved = stack.did("backup", str(folder))
        again = stack.mkrich("backup", str(folder))
        up = stack.mkrich("restore", str(folder))
        stack.did("down")
        full = stack.mkrich("restore", str(folder))
        down = stack.mkrich("backup", str(tmp_path / "another"))

        for name in ("postgres", "s3"):
            shutil.rmtree(stack.config.state / name)
        restored = stack.did("restore", str(folder))
        stack.did("up", "--stores")
        with Accounts(Database(stack.database_url)) as accounts:
            grace = accounts.users.authenticate("grace", "a long and winding password")
        found = stack.bucket().get("candles/a")

    assert "1 objects" in saved
    assert "name a new folder" in again.stderr
    assert "mkrich down" in up.stderr
    assert "restore into an empty one" in full.stderr
    assert "mkrich up --stores" in down.stderr
    assert [done.returncode for done in (again, up, full, down)] == [1, 1, 1, 1]
    assert "mkrich up" in restored
    assert grace.name == "grace"
    assert found is not None
    assert found.content == b"content"
