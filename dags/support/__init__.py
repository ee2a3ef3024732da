"""What the DAGs share: tasks, the operator that runs Ray jobs, the retry policy, and alerts.

Imports `make_us_rich`, and neither torch, onnxruntime nor mlflow at module level.
"""
