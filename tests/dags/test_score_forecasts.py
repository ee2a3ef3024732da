"""A real run of score_forecasts over a week of served forecasts, good and bad."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime

import httpx
import numpy as np
import pytest

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import Settings
from make_us_rich.database import forecasts, outcomes, scores
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from make_us_rich.documents import HORIZON_GRID, HORIZONS, PairScore, Quantiles, Score
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.market.candles import Candles
from make_us_rich.record import scoring
from tests.support.airflow_runs import DagEnvironment
from tests.support.servers import MLFLOW_LOGIN
from tests.support.stored_candles import store_candles

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("three_active_pairs")]

HONEST = np.array([-1.645, -1.282, -0.674, 0.0, 0.674, 1.282, 1.645]) * 0.005
FAR_OFF = HONEST * 0.1 + 0.05


@pytest.fixture
def eos_without_candles(world: DagEnvironment) -> Iterator[None]:
    """An active pair that the exchange does not know."""
    world.break_exchange(kind="unknown_symbol", symbol="EOSUSDT")
    with Database(world.database_url) as database:
        pairs_table.put(database, "eos_usdt", plan="pooled")
        pairs_table.unpark(database, "eos_usdt")
        yield
        pairs_table.remove(database, "eos_usdt")


@pytest.mark.usefixtures("eos_without_candles")
def test_a_pair_that_drifts_is_posted_and_every_score_is_stored(world: DagEnvironment) -> None:
    """Another pair, which has no candles, does not hide the alarm: alone in its task, or with the one that drifts."""
    settings = world.typed_settings()
    as_of_ms = Interval.H1.last_close_ms(time.time_ns() // 1_000_000)
    for name, quantiles in (("btc_usdt", HONEST), ("eth_usdt", FAR_OFF)):
        _serve_a_week(settings, Pair.parse(name), as_of_ms, quantiles)
    before = len(world.embeds())
    as_of = datetime.fromtimestamp(as_of_ms / 1000, UTC).isoformat()  # a candle may close before the run begins

    form = {"pairs": ["btc_usdt", "chz_usdt", "eos_usdt", "eth_usdt"], "as_of": as_of}
    run = world.run("score_forecasts", form)

    assert run.states["alarm", ""] == "failed"
    assert run.states["retrain", ""] == "skipped"
    assert run.states["adapt", ""] == run.states["serve_adapted", ""] == "skipped", "there is no foundation"
    (embed,) = world.embeds()[before:]
    # no line about chz_usdt: a pair without forecasts has not drifted
    assert embed["title"] == "score_forecasts: eos_usdt, eth_usdt failed"
    assert "worse than naive" in embed["description"]

    found = scores.latest(Database(world.database_url), market=settings.market, interval=Interval.H1)
    assert set(found) == {"btc_usdt", "eth_usdt"}
    assert found["eth_usdt"].drifted
    assert found["eth_usdt"].skill_vs_naive < -1
    assert found["eth_usdt"].coverage_80 < 0.1
    assert not found["btc_usdt"].drifted, found["btc_usdt"].reason
    assert found["btc_usdt"].n == 168
    assert found["btc_usdt"].as_of.timestamp() * 1000 == as_of_ms
    assert [(item.horizon, item.n) for item in found["btc_usdt"].horizons] == [(h, 169 - h) for h in HORIZON_GRID]
    outcomes_of = {
        each.pair: each.n for each in outcomes.scored_series(Database(world.database_url), market="simulated")
    }
    assert outcomes_of == {"btc_usdt": 168, "eth_usdt": 168}
    scored = {("simulated", "btc_usdt_1h"): 168.0, ("simulated", "eth_usdt_1h"): 168.0}
    assert _logged(settings.mlflow_url) == scored
    day_ahead = found["eth_usdt"].horizons[-1]
    assert _logged(settings.mlflow_url, "skill_vs_naive_h24")["simulated", "eth_usdt_1h"] == day_ahead.skill_vs_naive
    assert _logged(settings.mlflow_url, "skipped_h24")["simulated", "eth_usdt_1h"] == 0.0
    kept = asdict(found["eth_usdt"])
    score = Score.model_validate(kept | {"t_vs_naive": 0.0, "shift": {}})
    of_binance = PairScore(
        market="binance", pair=Pair("eth", "usdt"), interval=Interval.H1, as_of_ms=as_of_ms, score=score
    )
    scoring.log_to_mlflow(settings, [of_binance])
    assert _logged(settings.mlflow_url) == scored | {("binance", "eth_usdt_1h"): 168.0}

    with Database(world.database_url) as database:
        pairs_table.unpark(database, "eos_usdt")
    form = {"pairs": ["eos_usdt", "eth_usdt"], "as_of": as_of, "pairs_per_task": 2}
    together = world.run("score_forecasts", form)

    assert "failed: eos_usdt, eth_usdt" in together.log, together.log[-3000:]


def _serve_a_week(settings: Settings, pair: Pair, as_of_ms: int, quantiles: np.ndarray) -> None:
    """Record 168 forecasts of all horizons as serving does, and store the candles in S3."""
    store = CandleStore.from_settings(settings)
    store_candles(settings, [pair], as_of_ms, 1700)
    candles: Candles = store.read(settings.market, pair, Interval.H1, as_of_ms - 169 * HOUR_MS, as_of_ms - HOUR_MS)
    roots = np.sqrt(np.arange(1, HORIZONS + 1))[:, None]
    with Database(settings.database_url.get_secret_value()) as database:
        for open_ms, close in zip(candles.open_time_ms.tolist(), candles.close.tolist(), strict=True):
            forecasts.record(
                database,
                [Quantiles.of(prices) for prices in (close * np.exp(roots * quantiles)).tolist()],
                market=settings.market,
                pair=pair,
                interval=Interval.H1,
                as_of_ms=open_ms + HOUR_MS,
                version=1,
                last_close=close,
                made_at=datetime.fromtimestamp(open_ms / 1000 + 3600 + 20, UTC),
            )


def _logged(mlflow_url: str, name: str = "n") -> dict[tuple[str, str], float]:
    """Return a metric of each MLflow run that has it, by market and name of the run."""
    with httpx.Client(base_url=f"{mlflow_url}/api/2.0/mlflow", auth=MLFLOW_LOGIN) as api:
        answer = api.get("/experiments/get-by-name", params={"experiment_name": "score_forecasts"})
        experiment = answer.json()["experiment"]["experiment_id"]
        runs = api.post("/runs/search", json={"experiment_ids": [experiment]}).json()["runs"]
    return {
        (tag["value"], run["info"]["run_name"]): metric["value"]
        for run in runs
        for tag in run["data"]["tags"]
        if tag["key"] == "market"
        for metric in run["data"]["metrics"]
        if metric["key"] == name
    }
