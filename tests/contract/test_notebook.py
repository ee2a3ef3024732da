"""The page "Use a model in your notebook": its code runs as it is, on a real MLflow server and a real S3 store."""

from __future__ import annotations

import re

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import BITCOIN
from make_us_rich.forecasting.onnx_model import COLUMN_UNITS, OnnxModel
from make_us_rich.market.candle_store import CandleStore
from make_us_rich.market.object_store import ObjectStore
from tests.support.documentation import code_blocks
from tests.support.processes import PROJECT_ROOT
from tests.support.registry import register_graph, version_tags
from tests.support.servers import S3_KEYS, mlflow_server, s3_server
from tests.support.tiny_model import tiny_model
from tests.unit.forecasting.random_candles import random_candles

PAGE = PROJECT_ROOT / "docs" / "how-to" / "notebook.md"


def test_the_code_of_the_page_forecasts_as_the_service_does(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, length = tiny_model("btc_usdt"), 24
    candles = random_candles(1, 900)
    with mlflow_server() as url, s3_server() as s3_url:
        mlflow.set_tracking_uri(url)
        mlflow.set_experiment("notebook")
        version = register_graph("btc_usdt_1h", graph, version_tags())
        MlflowClient().set_registered_model_alias("btc_usdt_1h", "champion", str(version))
        objects = ObjectStore(s3_url, *S3_KEYS, "candles")
        objects.ensure_bucket()
        CandleStore(objects).write("simulated", BITCOIN, Interval.H1, candles)
        for name, value in {
            "MUR_MARKET": "simulated",
            "AWS_ENDPOINT_URL": s3_url,
            "AWS_ACCESS_KEY_ID": S3_KEYS[0],
            "AWS_SECRET_ACCESS_KEY": S3_KEYS[1],
        }.items():
            monkeypatch.setenv(name, value)
        names: dict[str, object] = {}
        for block in code_blocks("docs/how-to/notebook.md", "python"):
            exec(block, names)

    assert names["length"] == length
    forecast = names["forecast"]
    expected = OnnxModel.load(graph, "btc_usdt_1h").quantiles(candles, candles)
    np.testing.assert_allclose(forecast.to_numpy(), expected, rtol=1e-6)  # type: ignore[attr-defined]
    assert forecast.index[0].timestamp() * 1000 == candles.open_time_ms[-1] + 2 * HOUR_MS  # type: ignore[attr-defined]


def test_the_page_names_every_column_with_its_unit() -> None:
    page = PAGE.read_text()
    rows = dict(re.findall(r"^\| (`[^|]*`) \| ([^|]*?) \|$", page, flags=re.M))
    told = {name.strip("` "): unit.partition(", such")[0] for names, unit in rows.items() for name in names.split(",")}
    assert told == COLUMN_UNITS
