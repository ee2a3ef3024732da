"""The models of a replica: an LRU cache of loaded ones, and the loader that fetches a promoted one."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

from make_us_rich.core.errors import BadModel, RegistryError
from make_us_rich.core.pair import Series, foundation_name
from make_us_rich.core.settings import Settings
from make_us_rich.documents import NamedVersion
from make_us_rich.forecasting.onnx_model import OnnxModel
from make_us_rich.registry.client import ModelVersion, Registry
from serve_app.metrics import replica_metrics

_log = logging.getLogger("ray.serve")

_alerted: set[ModelKey] = set()
# Longer than a request's timeout, because no caller waits for it and S3 may be slow.
_FETCH_TIMEOUT_S = 10.0


class ModelKey(NamedTuple):
    """Identifies a version across registries: a new registry counts versions from 1 again, run ids never repeat."""

    name: str
    version: int
    run_id: str

    @classmethod
    def of(cls, version: ModelVersion) -> ModelKey:
        return cls(version.name, version.version, version.run_id)

    @property
    def named(self) -> NamedVersion:
        return NamedVersion(name=self.name, version=self.version)


class ModelCache:
    """LRU cache of ONNX sessions, shared by all pairs of a process.

    A session takes ten times the memory of its graph, so at most `capacity` are loaded.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._models: OrderedDict[ModelKey, OnnxModel] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._models)

    def get(self, key: ModelKey, graph: bytes) -> OnnxModel:
        """Return the model of a graph, and load it unless it is cached. Raises BadModel."""
        with self._lock:
            model = self._models.get(key)
            if model is not None:
                self._models.move_to_end(key)
                return model
        model = OnnxModel.load(graph, key.name)
        with self._lock:
            self._models[key] = model
            while len(self._models) > self._capacity:
                self._models.popitem(last=False)
        return model

    def discard(self, key: ModelKey) -> None:
        """Drop a model that was replaced. A pair that still uses it, as of the foundation, loads it again."""
        with self._lock:
            self._models.pop(key, None)


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A version and its graph, which stays in memory; the session comes from the cache."""

    version: ModelVersion
    graph: bytes
    cache: ModelCache

    @property
    def session(self) -> OnnxModel:
        """Raises BadModel."""
        return self.cache.get(self.key, self.graph)

    @property
    def key(self) -> ModelKey:
        return ModelKey.of(self.version)


class ModelLoader:
    """Fetches the `wanted` model of one series, and remembers which models failed their checks."""

    def __init__(self, series: Series, settings: Settings, cache: ModelCache) -> None:
        self._series = series
        self._settings = settings
        self._cache = cache
        self._allowed_names = series.name, foundation_name(series.interval)
        self._refused: dict[ModelKey, str] = {}
        self.wanted: ModelKey | None = None

    @property
    def refusal(self) -> str | None:
        """Why the wanted model does not serve, when it was fetched and failed its checks."""
        return self._refused.get(self.wanted) if self.wanted else None

    def load(self, serving: LoadedModel | None) -> LoadedModel | None:
        """Return the wanted model; None when it serves already, or was refused. Blocks.

        Raises RegistryError when it cannot be fetched now.
        """
        key = self.wanted
        if key is None or key in self._refused or (serving is not None and serving.key == key):
            return None
        try:
            return self._fetch(key)
        except BadModel as error:
            self.refuse(key, error, serving)
            return None

    def _fetch(self, key: ModelKey) -> LoadedModel:
        if key.name not in self._allowed_names:
            raise BadModel(f"{key.name} is another pair's model")
        with Registry(self._settings, timeout_s=_FETCH_TIMEOUT_S, skip_unreachable=True) as registry:
            version = registry.get(key.name, key.version)
            loaded = LoadedModel(version, registry.download(version), self._cache)
        if loaded.key != key:
            raise RegistryError(f"the registry's version {key.version} is not the one that was promoted")
        _ = loaded.session  # a graph that does not load is refused now, not at its first forecast
        return loaded

    def refuse(self, key: ModelKey, error: BadModel, serving: LoadedModel | None) -> None:
        """Do not fetch this version again, because its file does not change; log it and alert on Discord."""
        self._refused[key] = str(error)
        replica_metrics().model_refused(self._series)
        version = serving.version if serving else None
        instead = f"version {version.version} of {version.name} keeps serving" if version else "nothing serves"
        _log.error("%s: version %d of %s is refused, %s: %s", self._series.name, key.version, key.name, instead, error)
        self._alert(key, error, version)

    def admit(self, key: ModelKey) -> None:
        """Take back a refusal: the model made a forecast from other candles."""
        self._refused.pop(key, None)

    def _alert(self, key: ModelKey, error: BadModel, serving: ModelVersion | None) -> None:
        """Post one message for each version and process, because many pairs may refuse one foundation model."""
        if key in _alerted:
            return
        from make_us_rich.operations import alerts  # takes 0.2 s, which a starting replica need not wait for

        _alerted.add(key)
        consequence = (
            f"Version {serving.version} of {serving.name} keeps serving."
            if serving
            else "Nothing serves the pair until the next model."
        )
        reason = alerts.quoted(str(error))
        alert = alerts.Alert(
            title=f"{key.name}: version {key.version} is refused",
            text=f"It was promoted for {self._series.name} and failed its checks: {reason}\n{consequence}",
            fields={"pair": self._series.pair, "run": key.run_id},
            link=f"{self._settings.mlflow_link_url}/#/models/{key.name}/versions/{key.version}",
        )
        alerts.post_soon(alert, self._settings)
