"""The servers that serving needs, and a client to promote models on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from make_us_rich.accounts import Accounts
from make_us_rich.core.settings import Settings
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from make_us_rich.registry.client import CHAMPION, PREVIOUS
from make_us_rich.registry.promotion import TAG_DECISION
from tests.support.polling import ReceivedAnswers
from tests.support.processes import free_port
from tests.support.registry import register_graph, version_tags
from tests.support.servers import RAY_TOKEN, discord_server, exchange_server, migrated_database, mlflow_server, ray_head

_PASSWORD = "a password for tests"
_ADMIN_TOKEN = "mur_an-admin-token-for-tests"


@dataclass(frozen=True)
class ServingServers:
    settings: Settings
    accounts: Accounts
    admin_token: str
    member_token: str
    discord_url: str
    folder: Path
    first_answers: ReceivedAnswers = field(default_factory=ReceivedAnswers)

    @property
    def database_url(self) -> str:
        return self.settings.database_url.get_secret_value()

    def promote(self, pair: str, graph: bytes) -> int:
        """Register a model as the pipeline does and make it champion; returns its version.

        `pair` may be "foundation".
        """
        name = f"{pair}_1h"
        version = register_graph(name, graph, version_tags() | {TAG_DECISION: "promoted: for a test"})
        client = MlflowClient()
        with suppress(MlflowException):  # there is none before the first
            before = client.get_model_version_by_alias(name, CHAMPION)
            client.set_registered_model_alias(name, PREVIOUS, before.version)
        client.set_registered_model_alias(name, CHAMPION, str(version))
        return version


@contextmanager
def serving_servers(folder: Path, environment: Mapping[str, str]) -> Iterator[ServingServers]:
    """Run Postgres, the replay exchange, the Discord stand-in, MLflow and a Ray head; nothing is deployed yet.

    `folder`: with a short path, because Ray's sockets lie below it.
    """
    with ExitStack() as contexts:
        database_url = contexts.enter_context(migrated_database())
        discord_url = contexts.enter_context(discord_server())
        exchange_url = contexts.enter_context(exchange_server())
        mlflow_url = contexts.enter_context(mlflow_server())
        ours = {
            "MUR_DATABASE_URL": database_url,
            "MUR_EXCHANGE_URL": exchange_url,
            "MUR_MARKET": "simulated",
            "MUR_MLFLOW_URL": mlflow_url,
            "MUR_API_URL": f"http://127.0.0.1:{free_port()}",
            "MUR_RAY_TOKEN": RAY_TOKEN,
            "MUR_DISCORD_WEBHOOK_URL": f"{discord_url}/api/webhooks/1/a-secret-of-discord",
            "MUR_CACHE_FOLDER": str(folder / "cache"),
            **environment,
        }
        ray_url = contexts.enter_context(ray_head(folder, ours))
        made = {key.removeprefix("MUR_").lower(): value for key, value in ours.items()}
        settings = Settings(**made, ray_url=ray_url)
        pairs_table.seed(Database(database_url), settings.pairs, settings.pooled_pairs)
        mlflow.set_tracking_uri(mlflow_url)
        mlflow.set_experiment("serving")
        accounts = contexts.enter_context(Accounts(Database(database_url)))
        accounts.ensure_service_token(_ADMIN_TOKEN)
        member = accounts.users.create("member", _PASSWORD)
        yield ServingServers(
            settings,
            accounts,
            admin_token=_ADMIN_TOKEN,
            member_token=accounts.tokens.create(member.user_id, "tests"),
            discord_url=discord_url,
            folder=folder,
        )


def ray_headers(stack: ServingServers) -> dict[str, str]:
    return {"Authorization": f"Bearer {stack.settings.ray_token.get_secret_value()}"}


def replicas(stack: ServingServers, application: str) -> list[tuple[str, int]]:
    """Return the ids of an application's replicas with their process ids; that of a starting replica is 0."""
    url = f"{stack.settings.ray_url}/api/serve/applications/"
    answer = httpx.get(url, headers=ray_headers(stack)).raise_for_status().json()
    (deployment,) = answer["applications"][application]["deployments"].values()
    return sorted((replica["replica_id"], replica.get("pid") or 0) for replica in deployment["replicas"])


def replica_pids(stack: ServingServers, application: str) -> list[int]:
    """Return the process ids of an application's replicas, without those that are starting."""
    return [pid for _, pid in replicas(stack, application) if pid]
