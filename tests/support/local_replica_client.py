"""Forecasters in the gateway's own process, for tests that are not about Ray."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from make_us_rich.core.pair import Pair, model_name
from make_us_rich.core.settings import Settings
from make_us_rich.documents import Document, PairState
from serve_app.replica.forecaster import Forecaster, WantedModel
from serve_app.replica.models import ModelCache


class LocalReplicaClient:
    """`wanted`: the user_config of each pair's application, by pair."""

    def __init__(self, settings: Settings, wanted: Mapping[str, WantedModel]) -> None:
        self._settings = settings
        self._wanted = {model_name(Pair.parse(pair), settings.interval): (pair, wanted[pair]) for pair in wanted}
        self._model_cache = ModelCache(settings.loaded_models)
        self._forecasters: dict[str, Forecaster] = {}

    async def applications(self) -> frozenset[str]:
        return frozenset(self._wanted)

    async def call(self, name: str, method: str, *arguments: object) -> Document:
        forecaster = await self._forecaster(name)
        answer: Document = await getattr(forecaster, method)(*arguments)
        return answer

    def is_scaled_to_zero(self, _: str) -> bool:
        return False

    async def states(self, method: Literal["state", "refresh"]) -> dict[str, PairState]:
        forecasters = {name: await self._forecaster(name) for name in self._wanted}
        return {name: await getattr(forecaster, method)() for name, forecaster in forecasters.items()}

    async def _forecaster(self, name: str) -> Forecaster:
        if name not in self._forecasters:
            pair, wanted = self._wanted[name]
            self._forecasters[name] = Forecaster(Pair.parse(pair), self._settings, self._model_cache)
            await self._forecasters[name].reconfigure(wanted)
        return self._forecasters[name]
