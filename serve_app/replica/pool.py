"""Many rarely asked pairs in one replica: a process costs 150 MiB, a pair in it about one, with its model three."""

from __future__ import annotations

import asyncio
from typing import Any

from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import Settings
from make_us_rich.registry.client import model_name
from serve_app.replica.forecaster import Forecaster
from serve_app.replica.model_cache import ModelCache


class Pool:
    """A forecaster a pair, asked by its application's name as if it were one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._model_cache = ModelCache(settings.loaded_models)
        self._forecasters: dict[str, Forecaster] = {}

    async def reconfigure(self, user_config: dict[str, dict[str, Any]]) -> None:
        """`user_config`: each pair's own, by pair."""
        wanted = {model_name(Pair.parse(pair), self._settings.interval): pair for pair in user_config}
        for name in self._forecasters.keys() - wanted.keys():
            self._forecasters.pop(name).close()
        for name in wanted.keys() - self._forecasters.keys():
            self._forecasters[name] = Forecaster(Pair.parse(wanted[name]), self._settings, self._model_cache)
        await asyncio.gather(*(self._forecasters[name].reconfigure(user_config[pair]) for name, pair in wanted.items()))

    async def names(self) -> dict[str, list[str]]:
        return {"names": sorted(self._forecasters)}

    async def ask(self, name: str, method: str, *arguments: object) -> dict[str, Any]:
        if name not in self._forecasters:
            return {"reason": "it has just left the pool"}
        return dict(await getattr(self._forecasters[name], method)(*arguments))

    async def states(self, method: str) -> dict[str, dict[str, Any]]:
        """Of all pairs in one answer, by name: `status` or `refresh`."""
        forecasters = dict(self._forecasters)
        states = await asyncio.gather(*(getattr(each, method)() for each in forecasters.values()))
        return dict(zip(forecasters, states, strict=True))
