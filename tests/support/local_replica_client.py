"""Forecasters in the gateway's own process, for tests that are not about Ray."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from make_us_rich.core.pair import Series
from make_us_rich.core.settings import Settings
from make_us_rich.documents import Document, PairState
from serve_app.replica.forecaster import Forecaster, WantedModel
from serve_app.replica.models import ModelCache


class LocalReplicaClient:
    """`wanted`: the user_config of each application, by its name."""

    def __init__(self, settings: Settings, wanted: Mapping[str, WantedModel]) -> None:
        self._settings = settings
        self._wanted = wanted
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
            self._forecasters[name] = Forecaster(Series.parse(name), self._settings, self._model_cache)
            await self._forecasters[name].reconfigure(self._wanted[name])
        return self._forecasters[name]
