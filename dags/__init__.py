"""Airflow's side: thin DAGs over `make_us_rich`, and the operator that runs jobs on Ray.

Nothing here imports torch, onnxruntime or mlflow: an import at module level is paid at every parse.
"""
