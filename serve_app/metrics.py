"""What Prometheus can ask of serving, beside what Ray Serve counts itself.

Ray's agents collect them from every process, so that several gateways add up; its metrics port has them with the
prefix `ray_`, and `_total` after a counter. Each carries Serve's tags application, deployment and replica.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from functools import cache
from typing import Literal

from ray.serve import metrics

from serve_app.replica.forecast import Current, model_as_of_ms

_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0]
_PAIR = ("pair",)
_TOLD_EVERY_S = 1.0


@cache
def forecaster_metrics() -> ForecasterMetrics:
    """One for all pairs of a process, because a metric is registered once."""
    return ForecasterMetrics()


class ForecasterMetrics:
    """By pair."""

    def __init__(self) -> None:
        self._onnx_seconds = metrics.Histogram(
            "mur_onnx_seconds",
            description="time of one forecast in ONNX Runtime",
            boundaries=_SECONDS,
            tag_keys=_PAIR,  # type: ignore[arg-type]  # Ray means any number of them
        )
        self._swaps = metrics.Counter("mur_model_swaps", description="models taken over", tag_keys=_PAIR)  # type: ignore[arg-type]
        self._refusals = metrics.Counter(
            "mur_model_refusals",
            description="models that failed their checks",
            tag_keys=_PAIR,  # type: ignore[arg-type]
        )
        self._as_of_seconds = metrics.Gauge(
            "mur_forecast_as_of_seconds",
            description="close of the newest candle forecast from, seconds since 1970",
            tag_keys=_PAIR,  # type: ignore[arg-type]
        )
        self._model_as_of_seconds = metrics.Gauge(
            "mur_model_as_of_seconds",
            description="what the serving model has seen, seconds since 1970",
            tag_keys=_PAIR,  # type: ignore[arg-type]
        )
        self._models_loaded = metrics.Gauge("mur_models_loaded", description="models that the process keeps loaded")

    def forecast_made(self, current: Current, seconds: float, *, swapped: bool) -> None:
        pair = {"pair": str(current.pair)}
        self._onnx_seconds.observe(seconds, tags=pair)
        self._as_of_seconds.set(current.window.as_of_ms / 1000, tags=pair)
        self._model_as_of_seconds.set(model_as_of_ms(current.version) / 1000, tags=pair)
        self._models_loaded.set(len(current.loaded.model_cache))
        if swapped:
            self._swaps.inc(tags=pair)

    def model_refused(self, pair: str) -> None:
        self._refusals.inc(tags={"pair": pair})


class GatewayMetrics:
    """Counters are added up here and told to Ray once a second: telling it costs as much as finding an answer."""

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
            tag_keys=_PAIR,  # type: ignore[arg-type]
        )

    def answered(self, route: str, status: int) -> None:
        self._requests.add(route, str(status))

    def answered_for_pair(self, pair: str, seconds: float) -> None:
        self._pair_request_seconds.observe(seconds, tags={"pair": pair})

    def forecast_given(self, name: str, source: Literal["memory", "replica"]) -> None:
        self._answers.add(name, source)

    def refused(self, used_up: Literal["month", "minute"]) -> None:
        self._quota_refusals.add(used_up)


class BufferedCounter:
    """A counter that is told to Ray a second after its first change."""

    def __init__(self, name: str, description: str, tags: tuple[str, ...]) -> None:
        self._tags = tags
        self._counter = metrics.Counter(name, description=description, tag_keys=tags)  # type: ignore[arg-type]
        self._counts: defaultdict[tuple[str, ...], int] = defaultdict(int)

    def add(self, *values: str) -> None:
        """One more, with a value for each tag. Called from the event loop."""
        if not self._counts:
            asyncio.get_running_loop().call_later(_TOLD_EVERY_S, self._tell)
        self._counts[values] += 1

    def _tell(self) -> None:
        counts, self._counts = self._counts, defaultdict(int)
        for values, count in counts.items():
            self._counter.inc(count, tags=dict(zip(self._tags, values, strict=True)))
