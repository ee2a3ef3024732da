"""The examples in the OpenAPI document are answers of the API: `make openapi-examples` records them again."""

from __future__ import annotations

import json
import os
from typing import Any

import httpx

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import Settings
from make_us_rich.core.times import current_ms, from_ms
from make_us_rich.database import forecasts
from make_us_rich.documents import HORIZONS, CandleColumns, Forecast, PairState, Quantiles, UpdatedModels
from make_us_rich.registry.client import (
    CHAMPION,
    PREVIOUS,
    TAG_AS_OF_MS,
    TAG_HORIZON_COVERAGES,
    TAG_HORIZON_SKILLS,
    TAG_SKILL_VS_NAIVE,
    Registry,
)
from make_us_rich.registry.promotion import TAG_DECISION
from serve_app.api.openapi import EXAMPLES_FILE
from tests.support.folders import traversable_folder
from tests.support.local_api import LocalApi, local_api
from tests.support.registry import version_tags
from tests.support.servers import mlflow_server
from tests.support.waiting import wait_without_fault_until

BTC, NAME = Pair.parse("btc_usdt"), "btc_usdt_1h"
DECISIONS = {
    1: ("0.070", "promoted: first model of this name"),
    2: (
        "0.074",
        "promoted: +0.42% in the mean over 9 horizons (0.9259 of naive's loss against 0.9298, Diebold-Mariano t +1.4); "
        "+0.29% at the next close (held-out pinball 1.021e-03 against 1.024e-03, Diebold-Mariano t +0.9); "
        "compared with version 1",
    ),
    3: (
        "0.072",
        "refused: not better in the mean over the horizons: -0.21% in the mean over 9 horizons (0.9280 of naive's loss "
        "against 0.9261, Diebold-Mariano t -0.8); +0.10% at the next close (held-out pinball 1.019e-03 against "
        "1.020e-03, Diebold-Mariano t +0.3); compared with version 2",
    ),
}
"""Skill and decision of each version."""


def test_the_examples_are_answers_of_the_api() -> None:
    with (
        traversable_folder() as folder,
        mlflow_server() as mlflow,
        Registry(Settings(mlflow_url=mlflow)) as registry,
        local_api(folder, (BTC, "eth_usdt"), mlflow, version=2, tags=_tags(2, _last_close_ms())) as api,
    ):
        answers = _answers(api, registry)
    if os.environ.get("MUR_RENEW_EXAMPLES"):
        lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(answer)}" for name, answer in sorted(answers.items()))
        EXAMPLES_FILE.write_text(f"{{\n{lines}\n}}\n")
    recorded = json.loads(EXAMPLES_FILE.read_text())
    assert recorded.keys() == answers.keys()
    assert {name: _shape(answer) for name, answer in recorded.items()} == {
        name: _shape(answer) for name, answer in answers.items()
    }, "record them again: make openapi-examples"


def _answers(api: LocalApi, registry: Registry) -> dict[str, Any]:
    """Return an answer of each kind; all are of one moment."""
    member = api.accounts.tokens.create(api.accounts.users.create("member", "a password for tests").user_id, "tests")
    with httpx.Client(base_url=api.url, timeout=60) as http:

        def ask(path: str, method: str = "GET", token: str = member) -> Any:
            return http.request(method, path, headers={"Authorization": f"Bearer {token}"}).raise_for_status().json()

        wait_without_fault_until(
            lambda: len(ask(f"/v1/candles/{BTC}?limit=1000")["close"]) == 1000, 60, "the candles are not fetched"
        )
        wait_without_fault_until(
            lambda: all(each["as_of_ms"] and not each["reason"] for each in ask("/readyz")["pairs"].values()),
            60,
            "a pair is not up to date",
        )
        candles = CandleColumns(**ask(f"/v1/candles/{BTC}?limit=3"))
        forecast = Forecast(**ask(f"/v1/forecasts/{BTC}"))
        _register(registry)
        _record_past(api, forecast, candles)
        prediction = ask(f"/predict?pair={BTC}", "PUT")
        prediction["data"] = {name: {row: rows[row] for row in "012"} for name, rows in prediction["data"].items()}
        readiness = ask("/readyz")
        lost = PairState.unreachable("eth_usdt_1h does not answer at the moment: try again in a few seconds")
        updated = UpdatedModels(
            applications={NAME: 2, "eth_usdt_1h": 9, "sol_usdt_1h": 3},
            by_foundation=("sol_usdt_1h",),
            without_champion=(),
        )
        return {
            "Candles": candles.model_dump(),
            "Forecast": ask(f"/v1/forecasts/{BTC}?horizons=1,24"),
            "Forecasts": ask(f"/v1/forecasts?pairs={BTC},doge_usdt"),
            "Health": ask("/healthz"),
            "History": ask(f"/v1/forecasts/{BTC}/history?limit=2"),
            "ModelCard": ask(f"/v1/models/{BTC}"),
            "ModelsNumber": ask("/check_models_number"),
            "NotReady": readiness
            | {"ready": False, "pairs": readiness["pairs"] | {"eth_usdt_1h": json.loads(lost.model_dump_json())}},
            "Pairs": ask("/v1/pairs"),
            "Prediction": prediction,
            "Probability": ask(f"/v1/forecasts/{BTC}/probability?above={forecast.last_close * 1.01:.1f}&horizon=24"),
            "Readiness": readiness,
            "UpdatedDate": ask("/update_date", "PUT", api.admin_token),
            "UpdatedModels": json.loads(updated.model_dump_json()),  # the answer needs Ray: tests/serving
            "Usage": ask("/v1/usage"),
        }


def _register(registry: Registry) -> None:
    """Register a model that was replaced, the one that serves, and a refused one."""
    for version in DECISIONS:
        tags = _tags(version, _last_close_ms())
        registered = registry.publish(NAME, NAME, graph=b"-", params={}, metrics={}, tags=tags, description="")
        assert registered.version == version
    registry.set_alias(NAME, PREVIOUS, 1)
    registry.set_alias(NAME, CHAMPION, 2)


def _tags(version: int, newest_ms: int) -> dict[str, str]:
    skill, decision = DECISIONS[version]
    return version_tags() | {
        TAG_AS_OF_MS: str(newest_ms - (3 - version) * HOUR_MS),
        TAG_SKILL_VS_NAIVE: skill,
        TAG_HORIZON_SKILLS: json.dumps([round(float(skill) * 0.98**ahead, 3) for ahead in range(HORIZONS)]),
        TAG_HORIZON_COVERAGES: json.dumps([0.8] * HORIZONS),
        TAG_DECISION: decision,
    }


def _last_close_ms() -> int:
    return Interval.H1.last_close_ms(current_ms())


def _record_past(api: LocalApi, forecast: Forecast, candles: CandleColumns) -> None:
    """Record the forecasts of the two newest candles as they would have been made."""
    for hours, close in ((2, candles.close[0]), (1, candles.close[1])):
        as_of_ms = forecast.as_of_ms - hours * HOUR_MS
        factor = close / forecast.last_close
        assert forecasts.record(
            api.accounts.database,
            [Quantiles.of(price * factor for price in each.quantiles.prices()) for each in forecast.horizons],
            market="simulated",
            pair=BTC,
            interval=Interval.H1,
            as_of_ms=as_of_ms,
            version=3 - hours,
            last_close=close,
            made_at=from_ms(as_of_ms + 3000),
        )


def _shape(value: Any) -> Any:
    """Return the names and types of a document, without its values."""
    if isinstance(value, dict):
        return {name: _shape(each) for name, each in value.items()}
    return [_shape(each) for each in value] if isinstance(value, list) else type(value).__name__
