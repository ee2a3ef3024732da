"""The examples of two documents, which OpenAPI and the page /docs show. They belong together: see their test."""

from __future__ import annotations

from typing import Any

_NEXT_CLOSE = {
    "q05": 36_210.4,
    "q10": 36_301.9,
    "q25": 36_409.2,
    "q50": 36_502.8,
    "q75": 36_597.1,
    "q90": 36_705.5,
    "q95": 36_790.3,
}

FORECAST: dict[str, Any] = {
    "pair": "btc_usdt",
    "interval": "1h",
    "market": "binance",
    "as_of_ms": 1_699_999_200_000,
    "last_close": 36_500.0,
    "target_open_ms": 1_699_999_200_000,
    "target_close_ms": 1_700_002_800_000,
    "quantiles": _NEXT_CLOSE,
    "model": {
        "name": "btc_usdt_1h",
        "version": 12,
        "as_of_ms": 1_699_995_600_000,
        "architecture": "lstm",
        "skill_vs_naive": 0.074,
        "skill_margin": 0.021,
        "coverage_80": 0.804,
        "age_hours": 1.05,
    },
    "flags": {"stale": False, "simulated": False, "expired": False, "foundation": False},
    "horizons": [
        {
            "horizon": 1,
            "target_close_ms": 1_700_002_800_000,
            "quantiles": _NEXT_CLOSE,
            "tail": {"scale": 0.35, "shape": 0.12},
            "probability_up": 0.507,
            "expected_move": 0.0034,
            "volatility": 0.46,
            "skill_vs_naive": 0.074,
            "coverage_80": 0.804,
        },
        {
            "horizon": 24,
            "target_close_ms": 1_700_085_600_000,
            "quantiles": {
                "q05": 35_240.8,
                "q10": 35_660.2,
                "q25": 36_120.5,
                "q50": 36_520.9,
                "q75": 36_930.4,
                "q90": 37_412.6,
                "q95": 37_790.3,
            },
            "tail": {"scale": 0.37, "shape": 0.1},
            "probability_up": 0.514,
            "expected_move": 0.0166,
            "volatility": 0.44,
            "skill_vs_naive": 0.041,
            "coverage_80": 0.797,
        },
    ],
}
"""With `?horizons=1,24`."""

PROBABILITY: dict[str, Any] = {
    "pair": "btc_usdt",
    "interval": "1h",
    "market": "binance",
    "as_of_ms": 1_699_999_200_000,
    "last_close": 36_500.0,
    "horizon": 24,
    "target_close_ms": 1_700_085_600_000,
    "above": 37_000.0,
    "below": None,
    "between": None,
    "probability": 0.222851,
    "model": {"name": "btc_usdt_1h", "version": 12},
    "flags": {"stale": False, "simulated": False, "expired": False, "foundation": False},
}
"""Of `FORECAST`."""
