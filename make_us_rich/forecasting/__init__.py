"""The models: features, networks, training, evaluation, baselines and backtests.

Imports `core`, `documents` and `market`, and knows nothing of Airflow, Ray, HTTP, SQL or S3.
"""
