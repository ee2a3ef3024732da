from __future__ import annotations

import pytest

from make_us_rich.core.errors import BadModel
from serve_app.replica.model_cache import ModelCache, ModelKey
from tests.support.tiny_model import tiny_model

BTC, ETH, CHZ = (ModelKey(f"{pair}_usdt_1h", 1, "run-1") for pair in ("btc", "eth", "chz"))
GRAPHS = {key: tiny_model(key.name.removesuffix("_1h")) for key in (BTC, ETH, CHZ)}


def test_a_model_at_hand_is_not_loaded_again() -> None:
    model_cache = ModelCache(2)
    assert model_cache.take(BTC, GRAPHS[BTC]) is model_cache.take(BTC, GRAPHS[BTC])


def test_the_one_that_rested_longest_makes_room() -> None:
    model_cache = ModelCache(2)
    btc, eth = (model_cache.take(key, GRAPHS[key]) for key in (BTC, ETH))
    model_cache.take(BTC, GRAPHS[BTC])
    model_cache.take(CHZ, GRAPHS[CHZ])
    assert len(model_cache) == 2
    assert model_cache.take(BTC, GRAPHS[BTC]) is btc
    assert model_cache.take(ETH, GRAPHS[ETH]) is not eth


def test_a_new_version_is_another_model() -> None:
    model_cache = ModelCache(2)
    again = BTC._replace(version=2)
    assert model_cache.take(BTC, GRAPHS[BTC]) is not model_cache.take(again, GRAPHS[BTC])


def test_a_broken_graph_takes_no_place() -> None:
    model_cache = ModelCache(2)
    with pytest.raises(BadModel, match="does not load"):
        model_cache.take(BTC, b"not a model")
    assert len(model_cache) == 0
