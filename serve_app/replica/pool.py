"""Many rarely requested pairs in one replica: a process costs 150 MiB, a pair in it one, with its model three."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Literal

from make_us_rich.core.pair import Pair, model_name
from make_us_rich.core.settings import Settings
from make_us_rich.documents import Document, PairState, ReplicaError
from serve_app.replica.forecaster import Forecaster, WantedModel
from serve_app.replica.models import ModelCache


class Pool:
    """A forecaster for each pair, called by the name that its own application would have, such as btc_usdt_1h."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._model_cache = ModelCache(settings.loaded_models)
        self._forecasters: dict[str, Forecaster] = {}

    async def reconfigure(self, user_config: Mapping[str, WantedModel]) -> None:
        """Add and remove pairs, and swap to their models; `user_config` is by pair."""
        wanted = {model_name(Pair.parse(pair), self._settings.interval): pair for pair in user_config}
        for name in self._forecasters.keys() - wanted.keys():
            self._forecasters.pop(name).close()
        for name in wanted.keys() - self._forecasters.keys():
            self._forecasters[name] = Forecaster(Pair.parse(wanted[name]), self._settings, self._model_cache)
        await asyncio.gather(*(self._forecasters[name].reconfigure(user_config[pair]) for name, pair in wanted.items()))

    async def names(self) -> list[str]:
        """Return the names of the pooled pairs."""
        return sorted(self._forecasters)

    async def call(self, name: str, method: str, *arguments: object) -> Document:
        """Call one method of a pair's forecaster."""
        if name not in self._forecasters:
            return ReplicaError(kind="not-ready", detail="it has just left the pool")
        document: Document = await getattr(self._forecasters[name], method)(*arguments)
        return document

    async def states(self, method: Literal["state", "refresh"]) -> dict[str, PairState]:
        """Return the state of every pair, by name; `refresh` fetches the newest candles first."""
        forecasters = dict(self._forecasters)
        states = await asyncio.gather(*(getattr(each, method)() for each in forecasters.values()))
        return dict(zip(forecasters, states, strict=True))
