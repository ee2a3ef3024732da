"""Ray Serve's import paths: `gateway`, `forecaster` and `pool`, built by the declarative config."""

from __future__ import annotations

from ray import serve
from ray.serve import Application

from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import get_settings
from make_us_rich.operations.serve_config import FORECASTER, GATEWAY, POOL
from serve_app.replica.forecaster import Forecaster
from serve_app.replica.model_cache import ModelCache
from serve_app.replica.pool import Pool


def forecaster(args: dict[str, str]) -> Application:
    """One pair's application. Which model version it serves is user_config, so that a new one restarts nothing."""
    return serve.deployment(name=FORECASTER)(_PairForecaster).bind(args["pair"])


def gateway(_: dict[str, str]) -> Application:
    """The HTTP ingress of all pairs."""
    from serve_app.gateway.app import create_app  # a replica of a pair that wakes does without FastAPI's 0.3 s

    return serve.deployment(name=GATEWAY)(serve.ingress(create_app)()).bind()


def pool(_: dict[str, str]) -> Application:
    """All pooled pairs in one process."""
    return serve.deployment(name=POOL)(_Pool).bind()


class _Pool(Pool):
    def __init__(self) -> None:
        super().__init__(get_settings())


class _PairForecaster(Forecaster):
    def __init__(self, pair: str) -> None:
        settings = get_settings()
        super().__init__(Pair.parse(pair), settings, ModelCache(settings.loaded_models))
