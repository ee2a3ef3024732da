"""What the DAGs share: tasks, the operator that runs Ray jobs, retries, and alerts.

Imports `make_us_rich`, and neither torch, onnxruntime nor mlflow at module level.
"""
