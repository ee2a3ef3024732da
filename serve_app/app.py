"""The import paths of Ray Serve's configuration: `gateway`, `forecaster` and `pool` build one application each."""

from __future__ import annotations

from ray import serve
from ray.serve import Application

from make_us_rich.core.pair import Series
from make_us_rich.core.settings import get_settings
from make_us_rich.pipeline.deployment import FORECASTER, GATEWAY, POOL
from serve_app.replica.forecaster import Forecaster, Pool
from serve_app.replica.models import ModelCache


def gateway(_: dict[str, str]) -> Application:
    """Build the HTTP ingress of all series."""
    from serve_app.api.app import create_app  # a starting replica of a series does not wait 0.3 s for FastAPI

    return serve.deployment(name=GATEWAY)(serve.ingress(create_app)()).bind()


def forecaster(args: dict[str, str]) -> Application:
    """Build the application of one series. Its model is in user_config, so that a new one restarts nothing."""
    return serve.deployment(name=FORECASTER)(_SeriesForecaster).bind(args["series"])


def pool(_: dict[str, str]) -> Application:
    """Build the application of all pooled series, in one process."""
    return serve.deployment(name=POOL)(_Pool).bind()


class _SeriesForecaster(Forecaster):
    """Reads the settings in the replica's own process."""

    def __init__(self, series: str) -> None:
        settings = get_settings()
        super().__init__(Series.parse(series), settings, ModelCache(settings.loaded_models))


class _Pool(Pool):
    """Reads the settings in the replica's own process."""

    def __init__(self) -> None:
        super().__init__(get_settings())
