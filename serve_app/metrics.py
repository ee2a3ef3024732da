"""What Prometheus can ask of serving, beside the requests and latencies by route that Ray Serve counts itself.

Ray's agents collect them from every process, so that several gateways add up; its metrics port has them with the
prefix `ray_`. Each carries Serve's tags application, deployment and replica; a forecaster's application is its pair.
"""

from __future__ import annotations

from ray.serve import metrics

from serve_app.current import Current, model_as_of_ms

_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0]


class ForecasterMetrics:
    def __init__(self) -> None:
        self.onnx_seconds = metrics.Histogram(
            "mur_onnx_seconds", description="time of one forecast in ONNX Runtime", boundaries=_SECONDS
        )
        self.swaps = metrics.Counter("mur_model_swaps", description="models taken over")
        self.refusals = metrics.Counter("mur_model_refusals", description="models that failed their checks")
        self.as_of_seconds = metrics.Gauge(
            "mur_forecast_as_of_seconds",
            description="close of the newest candle forecast from, seconds since 1970",
        )
        self.model_as_of_seconds = metrics.Gauge(
            "mur_model_as_of_seconds", description="what the serving model has seen, seconds since 1970"
        )

    def forecast_made(self, current: Current, seconds: float, *, swapped: bool) -> None:
        self.onnx_seconds.observe(seconds)
        self.as_of_seconds.set(current.window.as_of_ms / 1000)
        if swapped:
            self.swaps.inc()
            self.model_as_of_seconds.set(model_as_of_ms(current.version) / 1000)


class GatewayMetrics:
    def __init__(self) -> None:
        self.answers = metrics.Counter(
            "mur_forecast_answers",
            description="forecasts given, by application and by where they came from: memory or a replica",
            tag_keys=("name", "source"),  # type: ignore[arg-type]  # Ray means any number of them
        )
        self.quota_refusals = metrics.Counter(
            "mur_quota_refusals", description="calls refused because the month or the minute is used up"
        )
