"""Forecasters in the gateway's own process, where Ray is not what a test is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import Settings
from make_us_rich.registry.client import model_name
from serve_app.replica.forecaster import Forecaster
from serve_app.replica.model_cache import ModelCache


class LocalReplicaClient:
    """`served`: the user_config of each pair's application."""

    def __init__(self, settings: Settings, served: Mapping[str, dict[str, Any]]) -> None:
        self._settings = settings
        self._served = served
        self._model_cache = ModelCache(settings.loaded_models)
        self._forecasters: dict[str, Forecaster] = {}

    async def names(self) -> frozenset[str]:
        return frozenset(model_name(Pair.parse(pair), self._settings.interval) for pair in self._served)

    async def ask(self, name: str, method: str, *arguments: object) -> dict[str, Any]:
        if name not in self._forecasters:
            pair = name.removesuffix(f"_{self._settings.interval}")
            self._forecasters[name] = Forecaster(Pair.parse(pair), self._settings, self._model_cache)
            await self._forecasters[name].reconfigure(self._served[pair])
        return dict(await getattr(self._forecasters[name], method)(*arguments))

    def asleep(self, _: str) -> bool:
        return False

    async def states(self, method: str) -> dict[str, dict[str, Any]]:
        return {name: await self.ask(name, method) for name in await self.names()}
