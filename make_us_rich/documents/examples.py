"""The examples of documents, which OpenAPI and the page /docs show. They are of one moment; a test keeps them valid.

Those of the documents that only the HTTP API has are in serve_app/api/examples.py.
"""

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

_MODEL = {
    "name": "btc_usdt_1h",
    "version": 12,
    "as_of_ms": 1_699_995_600_000,
    "architecture": "lstm",
    "skill_vs_naive": 0.074,
    "skill_margin": 0.021,
    "coverage_80": 0.804,
    "age_hours": 1.05,
    "shipped": False,
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
    "model": _MODEL,
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
            "probability_up": None,
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

CANDLES: dict[str, Any] = {
    "pair": "btc_usdt",
    "interval": "1h",
    "market": "binance",
    "simulated": False,
    "open_time_ms": [1_699_988_400_000, 1_699_992_000_000, 1_699_995_600_000],
    "open": [36_318.2, 36_290.7, 36_431.1],
    "high": [36_355.0, 36_468.4, 36_547.9],
    "low": [36_254.6, 36_281.3, 36_402.5],
    "close": [36_290.7, 36_431.1, 36_500.0],
    "volume": [812.44, 1_204.91, 1_096.37],
}
"""With `?limit=3`: the candles before `FORECAST`."""

_PROMOTION = (
    "promoted: +0.42% in the mean over 9 horizons (0.9259 of naive's loss against 0.9298, Diebold-Mariano t +1.4); "
    "+0.29% at the next close (held-out pinball 1.021e-03 against 1.024e-03, Diebold-Mariano t +0.9); "
    "compared with version 11"
)
_PREVIOUS = _MODEL | {
    "version": 11,
    "as_of_ms": 1_699_992_000_000,
    "skill_vs_naive": 0.07,
    "age_hours": 2.05,
    "promotion": "promoted: first model of this name",
}
_REFUSED = _MODEL | {
    "version": 13,
    "as_of_ms": 1_699_999_200_000,
    "skill_vs_naive": 0.072,
    "coverage_80": 0.811,
    "age_hours": 0.05,
    "promotion": (
        "refused: not better in the mean over the horizons: -0.21% in the mean over 9 horizons (0.9280 of naive's loss "
        "against 0.9261, Diebold-Mariano t -0.8); +0.10% at the next close (held-out pinball 1.019e-03 against "
        "1.020e-03, Diebold-Mariano t +0.3); compared with version 12"
    ),
}

MODEL_CARD: dict[str, Any] = _MODEL | {
    "foundation": False,
    "promotion": _PROMOTION,
    "previous": _PREVIOUS,
    "newest": [_REFUSED, _MODEL | {"promotion": _PROMOTION}, _PREVIOUS],
}
"""Of the model of `FORECAST`."""

USAGE: dict[str, Any] = {"limit": 1000, "used": 8, "remaining": 992, "resets_at_ms": 1_701_388_800_000}

_SERVED = {"name": "eth_usdt_1h", "version": 9}
_READY = {
    "ready": True,
    "asleep": False,
    "serves": {"name": "btc_usdt_1h", "version": 12},
    "wanted": {"name": "btc_usdt_1h", "version": 12},
    "refused": None,
    "as_of_ms": 1_699_999_200_000,
    "reason": None,
}

READINESS: dict[str, Any] = {
    "ready": True,
    "pairs": {"btc_usdt_1h": _READY, "eth_usdt_1h": _READY | {"serves": _SERVED, "wanted": _SERVED}},
}

NOT_READY: dict[str, Any] = {
    "ready": False,
    "pairs": {
        "btc_usdt_1h": _READY,
        "eth_usdt_1h": {
            "ready": False,
            "asleep": False,
            "serves": None,
            "wanted": None,
            "refused": None,
            "as_of_ms": None,
            "reason": "eth_usdt_1h does not answer at the moment: try again in a few seconds",
        },
    },
}
"""`Readiness` with a 503."""

UPDATED_MODELS: dict[str, Any] = {
    "applications": {"btc_usdt_1h": 12, "eth_usdt_1h": 9, "sol_usdt_1h": 3},
    "by_foundation": ["sol_usdt_1h"],
    "without_champion": [],
}
