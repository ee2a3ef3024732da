from __future__ import annotations

import pytest

from make_us_rich.errors import BadModel
from serve_app.model_shelf import ModelKey, ModelShelf
from tests.support.tiny_model import tiny_model

BTC, ETH, CHZ = (ModelKey(f"{pair}_usdt_1h", 1, "run-1") for pair in ("btc", "eth", "chz"))
GRAPHS = {key: tiny_model(key.name.removesuffix("_1h")) for key in (BTC, ETH, CHZ)}


def test_a_model_at_hand_is_not_loaded_again() -> None:
    shelf = ModelShelf(2)
    assert shelf.take(BTC, GRAPHS[BTC]) is shelf.take(BTC, GRAPHS[BTC])


def test_the_one_that_rested_longest_makes_room() -> None:
    shelf = ModelShelf(2)
    btc, eth = (shelf.take(key, GRAPHS[key]) for key in (BTC, ETH))
    shelf.take(BTC, GRAPHS[BTC])
    shelf.take(CHZ, GRAPHS[CHZ])
    assert len(shelf) == 2
    assert shelf.take(BTC, GRAPHS[BTC]) is btc
    assert shelf.take(ETH, GRAPHS[ETH]) is not eth


def test_a_new_version_is_another_model() -> None:
    shelf = ModelShelf(2)
    again = BTC._replace(version=2)
    assert shelf.take(BTC, GRAPHS[BTC]) is not shelf.take(again, GRAPHS[BTC])


def test_a_broken_graph_takes_no_place() -> None:
    shelf = ModelShelf(2)
    with pytest.raises(BadModel, match="does not load"):
        shelf.take(BTC, b"not a model")
    assert len(shelf) == 0
