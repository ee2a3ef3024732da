"""What the DAGs share: tasks with their retry policy, the operator that runs Ray jobs, and alerts.

Imports `make_us_rich`, and neither torch, onnxruntime nor mlflow at module level.
"""
