"""Loaded models, the ones used last: a session takes ten times the memory of the graph that it is made from."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple

from make_us_rich.forecasting.onnx_model import OnnxModel


class ModelKey(NamedTuple):
    """A version beyond doubt: version numbers start again with a new registry, run ids do not."""

    name: str
    version: int
    run_id: str


class ModelCache:
    """At most `most` sessions, shared by all pairs of a process; another one pushes off the one that rested longest."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._models: OrderedDict[ModelKey, OnnxModel] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._models)

    def take(self, key: ModelKey, graph: bytes) -> OnnxModel:
        """The model of a graph, loaded if it is not at hand. Raises BadModel."""
        with self._lock:
            model = self._models.get(key)
            if model is not None:
                self._models.move_to_end(key)
                return model
        model = OnnxModel.load(graph, key.name)
        with self._lock:
            self._models[key] = model
            while len(self._models) > self._most:
                self._models.popitem(last=False)
        return model
