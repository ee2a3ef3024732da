"""What the DAGs share: retries, the scope of a run, fetched candles, mapped tasks, alerts, the operator of Ray jobs.

Imports `make_us_rich`, and neither torch, onnxruntime nor mlflow at module level.
"""
