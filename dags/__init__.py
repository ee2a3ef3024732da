"""Airflow's DAGs, thin layers over `make_us_rich`; `support` holds what they share.

Imports `make_us_rich`, and neither torch, onnxruntime nor mlflow at module level: every parse would pay for it.
"""
