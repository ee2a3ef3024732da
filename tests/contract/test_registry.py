"""Publishing, aliases and promotion against a real MLflow server and a real Postgres."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from unittest.mock import Mock

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from infra.exchange.simulated import simulate
from make_us_rich.core.errors import RegistryError
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.settings import Settings
from make_us_rich.database import events
from make_us_rich.database.pool import Database
from make_us_rich.documents import HORIZONS, Comparison
from make_us_rich.forecasting.architectures import TrainingConfig
from make_us_rich.forecasting.recipe import FittedModel, fit
from make_us_rich.forecasting.training import TrainingTask
from make_us_rich.registry.client import CHAMPION, PREVIOUS, TAG_AS_OF_MS, TAG_SKILL_VS_NAIVE, ModelVersion, Registry
from make_us_rich.registry.promotion import (
    TAG_DECISION,
    ChampionChanged,
    PromotionDecision,
    _lock,
    promote_manually,
    rollback,
)
from make_us_rich.registry.promotion import promote as promote_with_expiry
from make_us_rich.registry.publish import publish, version_tags
from tests.support.accounts import transaction
from tests.support.fixed_response import NOT_FOUND_PAGE, fixed_response_server
from tests.support.processes import free_port
from tests.support.registry import champion_of
from tests.support.servers import mlflow_server

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch"),
]

AS_OF_MS = Interval.H1.last_close_ms(1_790_000_000_000)


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with mlflow_server() as url, Registry(Settings(mlflow_url=url)) as made:
        mlflow.set_tracking_uri(url)
        yield made


@pytest.fixture(scope="module")
def fitted() -> FittedModel:
    bitcoin = simulate(AS_OF_MS)["BTCUSDT"]
    recent = bitcoin[bitcoin.open_time_ms >= AS_OF_MS - 3000 * HOUR_MS]
    config = TrainingConfig(hidden=4, epochs=1, validation=200, holdout=200)
    return fit(recent, recent, pair="btc_usdt", task=TrainingTask(AS_OF_MS, config))


def _registered(registry: Registry, fitted: FittedModel, name: str, as_of_ms: int = AS_OF_MS) -> ModelVersion:
    """Register a version with the tags that `publish` gives it, but without files, which a promotion does not read."""
    client = MlflowClient()
    run = client.create_run("0").info
    with suppress(MlflowException):  # the name is registered already
        client.create_registered_model(name)
    tags = version_tags(fitted, as_of_ms, "simulated")
    version = client.create_model_version(name, f"{run.artifact_uri}/model", run.run_id, tags=tags)
    return registry.get(name, int(version.version))


def _against(champion: int | None, ours: float = 1.0e-3, theirs: float = 1.1e-3) -> Comparison:
    return Comparison(
        champion_version=champion,
        challenger_pinball=ours,
        champion_pinball=None if champion is None else theirs,
        t=None,
        naive_pinball=1.2e-3,
        t_vs_naive=3.0,
        skill_vs_naive=0.05,
        mean=None,
        challenger_horizons=1,
        champion_horizons=1,
    )


def promote(
    registry: Registry, database_url: str, challenger: ModelVersion, comparison: Comparison
) -> PromotionDecision:
    return promote_with_expiry(registry, Database(database_url), challenger, comparison, expiry_hours=840)


def test_a_published_model_is_read_back_unchanged(registry: Registry, fitted: FittedModel) -> None:
    published = publish(registry, fitted, name="btc_usdt_1h", as_of_ms=AS_OF_MS, market="simulated", tags={})
    version = registry.get("btc_usdt_1h", published.version)

    assert version == published
    assert registry.download(version) == fitted.onnx
    assert registry.weights(version) == fitted.weights
    losses = registry.metric_history(version.run_id, "train_loss")
    assert losses == pytest.approx([epoch["train_loss"] for epoch in fitted.curves])
    assert version.horizon_skills[23] == pytest.approx(fitted.metrics["skill_vs_naive_h24"], abs=1e-5)
    assert version.horizon_coverages[0] == pytest.approx(fitted.metrics["coverage_80"], abs=1e-5)
    assert version.horizon_skills[0] == version.number(TAG_SKILL_VS_NAIVE), "one figure, not two roundings of it"
    assert len(version.horizon_skills) == len(version.horizon_coverages) == HORIZONS
    assert version.tags[TAG_AS_OF_MS] == str(AS_OF_MS)
    run = mlflow.get_run(version.run_id)
    as_of = datetime.fromtimestamp(AS_OF_MS / 1000, UTC)
    assert run.info.run_name == f"btc_usdt_1h as of {as_of:%Y-%m-%d %H:%M} UTC"
    assert run.data.metrics["skill_vs_naive"] == pytest.approx(fitted.metrics["skill_vs_naive"])
    assert run.data.params["architecture"] == "lstm"
    assert registry.find("btc_usdt_1h", CHAMPION) is None, "publishing promotes nothing"


def test_the_first_version_is_promoted_and_a_better_one_replaces_it(
    registry: Registry, fitted: FittedModel, database_url: str
) -> None:
    name = "eth_usdt_1h"
    first, second = _registered(registry, fitted, name), _registered(registry, fitted, name)
    assert registry.find(name, CHAMPION) is None

    assert promote(registry, database_url, first, _against(None)).promoted
    assert promote(registry, database_url, second, _against(first.version)).promoted

    assert champion_of(registry, name).version == second.version
    previous = registry.find(name, PREVIOUS)
    assert previous is not None
    assert previous.version == first.version
    assert registry.get(name, second.version).tags[TAG_DECISION].startswith("promoted: +9.09%")


def test_a_worse_version_is_refused_and_tagged_with_the_reason(
    registry: Registry, fitted: FittedModel, database_url: str
) -> None:
    name = "chz_usdt_1h"
    first, worse = _registered(registry, fitted, name), _registered(registry, fitted, name)
    promote(registry, database_url, first, _against(None))

    decision = promote(registry, database_url, worse, _against(first.version, ours=1.2e-3))

    assert not decision.promoted
    assert champion_of(registry, name).version == first.version
    assert registry.get(name, worse.version).tags[TAG_DECISION].startswith("refused: not better")


def test_a_comparison_with_a_former_champion_is_refused(
    registry: Registry, fitted: FittedModel, database_url: str
) -> None:
    name = "sol_usdt_1h"
    versions = [_registered(registry, fitted, name) for _ in range(3)]
    promote(registry, database_url, versions[0], _against(None))
    promote(registry, database_url, versions[1], _against(versions[0].version))

    with pytest.raises(ChampionChanged, match="compared with champion 1, which is 2 now"):
        promote(registry, database_url, versions[2], _against(versions[0].version))

    assert champion_of(registry, name).version == versions[1].version


def test_of_two_first_promotions_at_once_one_must_compare_again(
    registry: Registry, fitted: FittedModel, database_url: str
) -> None:
    name = "ada_usdt_1h"
    versions = [_registered(registry, fitted, name) for _ in range(2)]

    def first(version: ModelVersion) -> str:
        try:
            promote(registry, database_url, version, _against(None))
        except ChampionChanged:
            return "compare again"
        return "promoted"

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(first, versions)) == ["compare again", "promoted"]


def test_a_challenger_with_an_older_as_of_is_never_promoted(
    registry: Registry, fitted: FittedModel, database_url: str
) -> None:
    name = "ltc_usdt_1h"
    champion = _registered(registry, fitted, name)
    promote(registry, database_url, champion, _against(None))
    older = _registered(registry, fitted, name, AS_OF_MS - HOUR_MS)

    decision = promote(registry, database_url, older, _against(champion.version))

    assert not decision.promoted
    assert "backfill" in decision.reason
    assert champion_of(registry, name).version == champion.version


def test_a_promotion_that_is_repeated_changes_nothing(
    registry: Registry, fitted: FittedModel, database_url: str
) -> None:
    name = "xrp_usdt_1h"
    version = _registered(registry, fitted, name)
    promote(registry, database_url, version, _against(None))

    assert promote(registry, database_url, version, _against(None)).promoted
    assert registry.find(name, PREVIOUS) is None


def test_a_rollback_makes_the_previous_champion_again_and_records_who_asked(
    registry: Registry, fitted: FittedModel, database_url: str
) -> None:
    name = "uni_usdt_1h"
    first, second = (_registered(registry, fitted, name) for _ in range(2))
    promote(registry, database_url, first, _against(None))
    with pytest.raises(RegistryError, match="no previous champion"):
        rollback(registry, Database(database_url), name, by="ada")
    promote(registry, database_url, second, _against(first.version))

    rollback(registry, Database(database_url), name, by="ada")

    assert champion_of(registry, name).version == first.version
    assert registry.get(name, first.version).tags[TAG_DECISION].startswith("promoted manually: by ada at ")
    assert "replaced: by version" in registry.get(name, second.version).tags[TAG_DECISION]
    decisions = [registry.get(name, each.version).tags[TAG_DECISION] for each in (first, second)]
    rollback(registry, Database(database_url), name, by="ada")
    assert champion_of(registry, name).version == second.version
    undone = [registry.get(name, each.version).tags[TAG_DECISION] for each in (first, second)]
    for decision, word in zip(
        [*decisions, *undone], ["promoted manually", "replaced", "replaced", "promoted manually"], strict=True
    ):
        assert decision.startswith(word)
        assert decision.count("; before: promoted: ") == 1, "the reason of its promotion is gone"


def test_each_change_of_a_champion_is_an_event_even_if_the_first_try_could_not_record_it(
    registry: Registry, fitted: FittedModel, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "avax_usdt_1h"
    first, second = (_registered(registry, fitted, name) for _ in range(2))
    promote(registry, database_url, first, _against(None))
    monkeypatch.setattr(events, "record_champion", Mock(side_effect=ConnectionError))
    with pytest.raises(ConnectionError):
        promote(registry, database_url, second, _against(first.version))
    monkeypatch.undo()

    for _ in range(2):
        promote(registry, database_url, second, _against(first.version))
    rollback(registry, Database(database_url), name, by="ada")

    with transaction(database_url) as cursor:
        found = events.after(cursor, 0, market="simulated", limit=1000)
    changes = [(item.payload["version"], item.payload["previous"]) for item in found if item.pair == "avax_usdt"]
    assert changes == [(1, None), (2, 1), (1, 2)]


def test_a_rollback_reads_the_aliases_after_it_holds_the_lock(
    registry: Registry, fitted: FittedModel, database_url: str
) -> None:
    name = "link_usdt_1h"
    first, second, third = (_registered(registry, fitted, name) for _ in range(3))
    promote(registry, database_url, first, _against(None))
    promote(registry, database_url, second, _against(first.version))

    with ThreadPoolExecutor(1) as pool:
        with _lock(Database(database_url), name):  # as a promotion holds it
            rolled_back = pool.submit(rollback, registry, Database(database_url), name, by="ada")
            _wait_until_the_lock_is_contended(database_url)
            registry.set_alias(name, PREVIOUS, second.version)
            registry.set_alias(name, CHAMPION, third.version)
        rolled_back.result(30)

    assert champion_of(registry, name).version == second.version


def _wait_until_the_lock_is_contended(database_url: str) -> None:
    for _ in range(300):
        with transaction(database_url) as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            if cursor.fetchone()[0]:
                return
        time.sleep(0.1)
    raise AssertionError("no process waits for the lock")


def test_a_version_that_does_not_exist_is_not_promoted(
    registry: Registry, fitted: FittedModel, database_url: str
) -> None:
    champion = _registered(registry, fitted, "dot_usdt_1h")
    promote(registry, database_url, champion, _against(None))
    with pytest.raises(RegistryError, match="has no version 99"):
        promote_manually(registry, Database(database_url), "dot_usdt_1h", 99, by="ada")
    assert champion_of(registry, "dot_usdt_1h").version == champion.version


def test_an_expired_champion_is_replaced_by_a_worse_one(
    registry: Registry, fitted: FittedModel, database_url: str
) -> None:
    name = "bnb_usdt_1h"
    old = _registered(registry, fitted, name, AS_OF_MS - 900 * HOUR_MS)
    promote(registry, database_url, old, _against(None))
    new = _registered(registry, fitted, name)

    decision = promote(registry, database_url, new, _against(old.version, ours=1.15e-3))

    assert decision.promoted
    assert champion_of(registry, name).version == new.version


def test_no_champion_is_not_an_error(registry: Registry, fitted: FittedModel) -> None:
    assert registry.find("nobody_usdt_1h", CHAMPION) is None, "no such model"
    _registered(registry, fitted, "trx_usdt_1h")
    assert registry.find("trx_usdt_1h", CHAMPION) is None, "a model without that alias"


@pytest.mark.parametrize(
    ("status", "body", "content_type"),
    [
        (404, NOT_FOUND_PAGE, "text/html"),
        (403, b"Not found in our list of allowed hosts", "text/plain"),
        (404, b'{"detail": "Not Found"}', "application/json"),
        (200, b"{}", "application/json"),
    ],
)
def test_a_page_of_another_server_is_an_error_not_a_missing_champion(
    status: int, body: bytes, content_type: str
) -> None:
    with (
        fixed_response_server(status, body, content_type) as url,
        Registry(Settings(mlflow_url=url)) as proxy,
        pytest.raises(RegistryError, match=r"MLflow"),
    ):
        proxy.find("btc_usdt_1h", CHAMPION)


def test_a_refused_log_in_names_the_setting(registry: Registry) -> None:
    url = mlflow.get_tracking_uri()
    with (
        Registry(Settings(mlflow_url=url, mlflow_password="wrong")) as stranger,
        pytest.raises(RegistryError, match="MUR_MLFLOW_PASSWORD"),
    ):
        stranger.find("btc_usdt_1h", CHAMPION)


def test_an_unreachable_registry_is_an_error() -> None:
    began = time.monotonic()
    with (
        Registry(Settings(mlflow_url=f"http://127.0.0.1:{free_port()}")) as nobody,
        pytest.raises(RegistryError, match="is it running"),
    ):
        nobody.find("btc_usdt_1h", CHAMPION)
    assert time.monotonic() - began < 10
