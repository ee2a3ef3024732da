from __future__ import annotations

import pytest

from make_us_rich.core.errors import BadModel
from serve_app.replica.models import ModelCache, ModelKey
from tests.support.tiny_model import tiny_model

BTC, ETH, CHZ = (ModelKey(f"{pair}_usdt_1h", 1, "run-1") for pair in ("btc", "eth", "chz"))
GRAPHS = {key: tiny_model(key.name.removesuffix("_1h")) for key in (BTC, ETH, CHZ)}


def test_a_cached_model_is_not_loaded_again() -> None:
    model_cache = ModelCache(2)
    assert model_cache.get(BTC, GRAPHS[BTC]) is model_cache.get(BTC, GRAPHS[BTC])


def test_the_least_recently_used_model_is_evicted() -> None:
    model_cache = ModelCache(2)
    btc, eth = (model_cache.get(key, GRAPHS[key]) for key in (BTC, ETH))
    model_cache.get(BTC, GRAPHS[BTC])
    model_cache.get(CHZ, GRAPHS[CHZ])
    assert len(model_cache) == 2
    assert model_cache.get(BTC, GRAPHS[BTC]) is btc
    assert model_cache.get(ETH, GRAPHS[ETH]) is not eth


def test_a_discarded_model_is_loaded_again() -> None:
    model_cache = ModelCache(2)
    btc = model_cache.get(BTC, GRAPHS[BTC])
    model_cache.discard(BTC)
    model_cache.discard(BTC)
    assert len(model_cache) == 0
    assert model_cache.get(BTC, GRAPHS[BTC]) is not btc


def test_a_new_version_is_another_model() -> None:
    model_cache = ModelCache(2)
    again = BTC._replace(version=2)
    assert model_cache.get(BTC, GRAPHS[BTC]) is not model_cache.get(again, GRAPHS[BTC])


def test_a_graph_that_does_not_load_is_not_cached() -> None:
    model_cache = ModelCache(2)
    with pytest.raises(BadModel, match="does not load"):
        model_cache.get(BTC, b"not a model")
    assert len(model_cache) == 0
