"""The Prometheus metrics of serving, on top of those of Ray Serve itself.

Ray's agents collect them from every process and add up several gateways. Its metrics port shows them with the prefix
`ray_`, counters with the suffix `_total`, and with Serve's tags application, deployment and replica.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from functools import cache
from typing import Any, Literal

from ray.serve import metrics

from make_us_rich.core.pair import Series

_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0]
_PAIR = ("pair",)
_SERIES: Any = ("pair", "interval")  # Ray annotates one key, and means any number of them
_FLUSH_AFTER_S = 1.0
# Ray drops a gauge that was not set for two of its export intervals of ten seconds.
GAUGES_EVERY_S = 5.0


@cache
def replica_metrics() -> ReplicaMetrics:
    """Return the one instance of this process: its pairs share it, because a metric is registered once."""
    return ReplicaMetrics()


class ReplicaMetrics:
    """Metrics of the forecasts, tagged by pair and interval."""

    def __init__(self) -> None:
        self._onnx_seconds = metrics.Histogram(
            "mur_onnx_seconds",
            description="time of one forecast in ONNX Runtime",
            boundaries=_SECONDS,
            tag_keys=_SERIES,
        )
        self._swaps = metrics.Counter("mur_model_swaps", description="models that started serving", tag_keys=_SERIES)
        self._refusals = metrics.Counter(
            "mur_model_refusals", description="models that failed their checks", tag_keys=_SERIES
        )
        self._as_of_seconds = metrics.Gauge(
            "mur_forecast_as_of_seconds",
            description="close of the newest candle forecast from, seconds since 1970",
            tag_keys=_SERIES,
        )
        self._model_as_of_seconds = metrics.Gauge(
            "mur_model_as_of_seconds",
            description="close of the newest candle that the serving model has seen, seconds since 1970",
            tag_keys=_SERIES,
        )
        self._models_loaded = metrics.Gauge("mur_models_loaded", description="models that the process keeps loaded")

    def forecast_computed(self, series: Series, seconds: float, *, swapped: bool) -> None:
        """`seconds`: time in ONNX Runtime. `swapped`: it is the first forecast by this model."""
        tags = series._asdict()
        self._onnx_seconds.observe(seconds, tags=tags)
        if swapped:
            self._swaps.inc(tags=tags)

    def forecast_served(self, series: Series, *, as_of_ms: int, model_as_of_ms: int, models_loaded: int) -> None:
        """Set the gauges. Call it every GAUGES_EVERY_S while the forecast is served: Ray forgets them otherwise."""
        tags = series._asdict()
        self._as_of_seconds.set(as_of_ms / 1000, tags=tags)
        self._model_as_of_seconds.set(model_as_of_ms / 1000, tags=tags)
        self._models_loaded.set(models_loaded)

    def model_refused(self, series: Series) -> None:
        """Count a model that failed its checks."""
        self._refusals.inc(tags=series._asdict())


class GatewayMetrics:
    """Metrics of the requests, tagged by route, application or pair."""

    def __init__(self) -> None:
        self._requests = BufferedCounter("mur_requests", "requests, by route and status", tags=("route", "status"))
        self._answers = BufferedCounter(
            "mur_forecast_answers",
            "forecasts given, by application and by where they came from: memory or a replica",
            tags=("name", "source"),
        )
        self._quota_refusals = BufferedCounter(
            "mur_quota_refusals", "calls refused because the month or the minute is used up", tags=("used_up",)
        )
        self._pair_request_seconds = metrics.Histogram(
            "mur_pair_request_seconds",
            description="time in the gateway of a request that was answered for one pair",
            boundaries=_SECONDS,
            tag_keys=_PAIR,
        )

    def request_answered(self, route: str, status: int) -> None:
        """Count a request."""
        self._requests.add(route, str(status))

    def pair_answered(self, pair: str, seconds: float) -> None:
        """Observe the time of a request that was answered for one pair."""
        self._pair_request_seconds.observe(seconds, tags={"pair": pair})

    def forecast_given(self, application: str, source: Literal["memory", "replica"]) -> None:
        """Count a forecast, by whether the gateway's cache or a replica had it."""
        self._answers.add(application, source)

    def quota_refused(self, used_up: Literal["month", "minute"]) -> None:
        """Count a call that was refused."""
        self._quota_refusals.add(used_up)


class BufferedCounter:
    """A counter that reports to Ray a second after its first change: reporting costs as much as a cached answer."""

    def __init__(self, name: str, description: str, tags: tuple[str, ...]) -> None:
        self._tags = tags
        self._counter = metrics.Counter(name, description=description, tag_keys=tags)  # type: ignore[arg-type]  # Ray means any number of them
        self._counts: defaultdict[tuple[str, ...], int] = defaultdict(int)

    def add(self, *values: str) -> None:
        """Add one, with a value for each tag. Call it from the event loop."""
        if not self._counts:
            asyncio.get_running_loop().call_later(_FLUSH_AFTER_S, self._flush)
        self._counts[values] += 1

    def _flush(self) -> None:
        counts, self._counts = self._counts, defaultdict(int)
        for values, count in counts.items():
            self._counter.inc(count, tags=dict(zip(self._tags, values, strict=True)))
