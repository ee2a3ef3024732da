"""Creates what a new installation needs: tables, accounts, buckets, and the pairs of its settings. Safe to repeat."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from make_us_rich.accounts import ADMIN, Accounts
from make_us_rich.core.pair import Pair
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.migrations import migrate
from make_us_rich.database.pool import Database
from make_us_rich.market.object_store import ObjectStore

ADMIN_NAME = "admin"


def prepare_buckets(
    endpoint_url: str, access_key: str, secret_key: str, names: Iterable[str], region: str = "us-east-1"
) -> None:
    for name in names:
        ObjectStore(endpoint_url, access_key, secret_key, name, region).ensure_bucket()


def prepare_accounts(database_url: str, admin_password: str, service_token: str, dashboard_token: str) -> None:
    """Create the tables, the first admin and the two tokens. `dashboard_token` is empty where no dashboard runs."""
    migrate(database_url)
    with Accounts(Database(database_url)) as accounts:
        accounts.users.ensure(ADMIN_NAME, admin_password, role=ADMIN)
        accounts.ensure_service_token(service_token)
        if dashboard_token:
            accounts.ensure_dashboard_token(dashboard_token)


def prepare_pairs(database: Database, pairs: Collection[Pair], pooled: Collection[Pair]) -> None:
    """Add the pairs of the settings. Needs the tables, which `prepare_accounts` creates."""
    pairs_table.seed(database, pairs, pooled)
