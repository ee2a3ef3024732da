"""The examples of the documents that only the HTTP API has, which OpenAPI and the page /docs show."""

from __future__ import annotations

from typing import Any

from make_us_rich.documents.examples import FORECAST

PAIRS: dict[str, Any] = {"pairs": [{"pair": "btc_usdt", "interval": "1h"}, {"pair": "eth_usdt", "interval": "1h"}]}

FORECASTS: dict[str, Any] = {
    "forecasts": [FORECAST | {"horizons": FORECAST["horizons"][:1]}],
    "missing": [{"pair": "doge_usdt", "detail": "doge_usdt is not served; served are: btc_usdt, eth_usdt"}],
}
"""With `?pairs=btc_usdt,doge_usdt`."""

HISTORY: dict[str, Any] = {
    "pair": "btc_usdt",
    "interval": "1h",
    "market": "binance",
    "forecasts": [
        {
            "horizon": 1,
            "target_open_ms": 1_699_995_600_000,
            "target_close_ms": 1_699_999_200_000,
            "model_version": 12,
            "foundation": False,
            "backfilled": False,
            "last_close": 36_431.1,
            "quantiles": {
                "q05": 36_142.0,
                "q10": 36_233.3,
                "q25": 36_340.4,
                "q50": 36_433.8,
                "q75": 36_527.9,
                "q90": 36_636.1,
                "q95": 36_720.8,
            },
            "close": 36_500.0,
            "inside_80": True,
        },
        {
            "horizon": 1,
            "target_open_ms": 1_699_992_000_000,
            "target_close_ms": 1_699_995_600_000,
            "model_version": 11,
            "foundation": False,
            "backfilled": False,
            "last_close": 36_290.7,
            "quantiles": {
                "q05": 36_106.5,
                "q10": 36_164.9,
                "q25": 36_233.2,
                "q50": 36_292.6,
                "q75": 36_352.5,
                "q90": 36_421.4,
                "q95": 36_475.2,
            },
            "close": 36_431.1,
            "inside_80": False,
        },
    ],
}
"""With `?limit=2`. The closes are those of the example of candles."""

PREDICTION: dict[str, Any] = {name: value for name, value in FORECAST.items() if name != "horizons"} | {
    "prediction": 36_502.8,
    "data": {
        "timestamp": {"0": "2023-11-14T19:00:00", "1": "2023-11-14T20:00:00", "2": "2023-11-14T21:00:00"},
        "open": {"0": "36318.2", "1": "36290.7", "2": "36431.1"},
        "high": {"0": "36355.0", "1": "36468.4", "2": "36547.9"},
        "low": {"0": "36254.6", "1": "36281.3", "2": "36402.5"},
        "close": {"0": "36290.7", "1": "36431.1", "2": "36500.0"},
        "volume": {"0": "812.44", "1": "1204.91", "2": "1096.37"},
        "close_time": {"0": 1_699_991_999_999, "1": 1_699_995_599_999, "2": 1_699_999_199_999},
    },
}
"""With three candles of the five days."""

UPDATED_DATE: dict[str, Any] = {"as_of_ms": {"btc_usdt_1h": 1_699_999_200_000, "eth_usdt_1h": 1_699_999_200_000}}

MODELS_NUMBER: dict[str, Any] = {
    "message": "Number of running models: 2",
    "models": ["btc_usdt", "eth_usdt"],
    "number_of_running_models": 2,
}

HEALTH: dict[str, Any] = {"status": "ok"}
