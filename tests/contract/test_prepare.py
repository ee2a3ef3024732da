"""`mkrich prepare` makes a new installation, and repeating it changes nothing that people made of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from click.testing import Result
from typer.testing import CliRunner

from make_us_rich.accounts import ADMIN, TOKEN_PREFIX, Accounts
from make_us_rich.cli import app
from make_us_rich.core.errors import StoreError, UnknownToken
from make_us_rich.core.settings import get_settings
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from make_us_rich.market.object_store import ObjectStore
from tests.support.accounts import owner_of
from tests.support.servers import S3_KEYS, empty_database, s3_server

pytestmark = pytest.mark.timeout(120)

FIRST_PASSWORD = "a long and winding password"
TOKENS = [f"{TOKEN_PREFIX}{'a' * 40}", f"{TOKEN_PREFIX}{'b' * 40}"]


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    with empty_database() as database, s3_server() as s3:
        yield {
            "MUR_DATABASE_URL": database,
            "MUR_S3_ENDPOINT_URL": s3,
            "MUR_S3_ACCESS_KEY": S3_KEYS[0],
            "MUR_S3_SECRET_KEY": S3_KEYS[1],
            "MUR_PAIRS": "btc_usdt,eth_usdt",
            "MUR_POOLED_PAIRS": "eth_usdt",
            "MUR_ADMIN_PASSWORD": FIRST_PASSWORD,
        }


def _prepare(environment: dict[str, str], token: str, **changed: str) -> Result:
    get_settings.cache_clear()
    try:
        return CliRunner(env=environment | {"MUR_SERVICE_TOKEN": token} | changed).invoke(app, ["prepare"])
    finally:
        get_settings.cache_clear()


def test_a_new_installation_is_ready_and_stays_as_people_made_it(environment: dict[str, str]) -> None:
    url = environment["MUR_DATABASE_URL"]
    assert _prepare(environment, TOKENS[0]).exit_code == 0
    for name in ("candles", "mlflow"):
        assert ObjectStore(environment["MUR_S3_ENDPOINT_URL"], *S3_KEYS, name).list_keys("") == []
    with Accounts(Database(url)) as accounts:
        assert accounts.users.authenticate("admin", FIRST_PASSWORD).is_admin
        assert ADMIN in owner_of(accounts, TOKENS[0]).roles
    assert {item.pair: item.plan for item in pairs_table.tracked(Database(url))} == {
        "btc_usdt": "dedicated",
        "eth_usdt": "pooled",
    }

    pairs_table.put(Database(url), "eth_usdt", plan="off")
    again = _prepare(environment, TOKENS[1], MUR_ADMIN_PASSWORD="the password of another day")

    assert again.exit_code == 0
    assert [item.pair for item in pairs_table.active(Database(url))] == ["btc_usdt"]
    with Accounts(Database(url)) as accounts:
        assert accounts.users.authenticate("admin", FIRST_PASSWORD).is_admin
        assert ADMIN in owner_of(accounts, TOKENS[1]).roles
        with pytest.raises(UnknownToken):
            owner_of(accounts, TOKENS[0])


def test_buckets_have_the_names_of_the_settings(environment: dict[str, str]) -> None:
    names = {"MUR_CANDLES_BUCKET": "our-candles", "MUR_MLFLOW_BUCKET": "our-models"}
    assert _prepare(environment, TOKENS[1], **names, MUR_S3_REGION="eu-central-1").exit_code == 0
    for name in names.values():
        assert ObjectStore(environment["MUR_S3_ENDPOINT_URL"], *S3_KEYS, name, "eu-central-1").list_keys("") == []


def test_a_store_that_refuses_is_named(environment: dict[str, str]) -> None:
    done = _prepare(environment, TOKENS[1], MUR_S3_SECRET_KEY="wrong")

    assert isinstance(done.exception, StoreError)
    assert environment["MUR_S3_ENDPOINT_URL"] in str(done.exception)
