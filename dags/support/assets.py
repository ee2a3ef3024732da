"""What the DAGs produce: Airflow's asset graph shows how a forecast derives from candles and models."""

from __future__ import annotations

from airflow.sdk import Asset

CANDLES = Asset("candles", group="make_us_rich")
FOUNDATION = Asset("foundation_model", group="make_us_rich")
MODELS = Asset("models", group="make_us_rich")
FORECASTS = Asset("forecasts", group="make_us_rich")
SCORES = Asset("scores", group="make_us_rich")
