"""A real run of train_foundation, from the choice of its pairs to a promoted model, with a real Ray head."""

from __future__ import annotations

import re

import pytest

from make_us_rich.accounts import Accounts
from make_us_rich.client import Client
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair, Series, foundation_name
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from make_us_rich.registry import adapted
from make_us_rich.registry.client import CHAMPION, Registry
from tests.support.airflow_runs import DagEnvironment

_API_TOKEN = "a-token-for-tests-of-adapted-foundations"
pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("three_active_pairs")]


def test_the_foundation_learns_from_the_most_traded_pairs_though_one_of_them_fails(with_ray: DagEnvironment) -> None:
    with_ray.break_exchange(kind="empty", symbol="SOLUSDT", after=1)  # its weeks are ranked, its candles are missing
    before = len(with_ray.embeds())

    run = with_ray.run("train_foundation", {})

    assert run.states["train", ""] == "success", run.log[-5000:]
    with Registry(with_ray.typed_settings()) as registry:
        champion = registry.find(foundation_name(Interval.H1), CHAMPION)
    assert champion is not None
    assert re.search(r"learned from avax_usdt,btc_usdt,eth_usdt\b(?!,)", run.log)
    assert "Exception in thread" not in run.log, "of one of Ray's actors"
    assert run.states["check_fetched", ""] == "failed", run.log
    (embed,) = with_ray.embeds()[before:]
    assert embed["title"] == "train_foundation: sol_usdt failed"
    assert "the exchange has no candle of sol_usdt" in embed["description"]


def test_named_pairs_are_fetched_instead_and_nothing_is_trained_without_candles(world: DagEnvironment) -> None:
    world.break_exchange(kind="empty", symbol="CHZUSDT")
    before = len(world.embeds())

    run = world.run("train_foundation", {"pairs": ["chz_usdt"], "as_of": "2025-06-02T00:00:00Z"})

    assert "ranking" not in run.log
    assert "1 of 2 pairs fetched" in run.log, "BTC was not fetched"
    assert run.states["check_fetched", ""] == "failed", run.log
    assert run.states["train", ""] == "skipped"
    (embed,) = world.embeds()[before:]
    assert embed["title"] == "train_foundation: chz_usdt failed"


def test_a_pair_without_a_model_is_forecast_by_the_foundation_adapted_to_it(with_ray: DagEnvironment) -> None:
    settings = with_ray.typed_settings()
    series = Series(Pair.parse("link_usdt"), Interval.H1)
    with Registry(settings) as registry, Accounts(Database(with_ray.database_url)) as accounts:
        accounts.ensure_service_token(_API_TOKEN)
        if registry.find(foundation_name(Interval.H1), CHAMPION) is None:
            with_ray.run("train_foundation", {"pairs": ["eth_usdt"]})
        pairs_table.put(Database(with_ray.database_url), series.pair, plan="pooled")
        try:
            run = with_ray.run("score_forecasts", {"pairs": [series.pair]})

            assert run.states["adapt", ""] == run.states["serve_adapted", ""] == "success", run.log[-5000:]
            foundation = registry.find(foundation_name(Interval.H1), CHAMPION)
            assert foundation is not None
            version = adapted.find(registry, foundation, series.pair)
            assert version is not None
            with Client(settings.api_url, _API_TOKEN) as client:
                model = client.forecast(series.pair).model
            assert (model.name, model.version) == (foundation.name, version.version)
            assert model.adapted_ms is not None
            again = with_ray.run("score_forecasts", {"pairs": [series.pair]})
            assert again.states["adapt", ""] == "skipped", "it was adapted twice in a day"
        finally:
            pairs_table.remove(Database(with_ray.database_url), series.pair)
