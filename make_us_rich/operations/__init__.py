"""Running an installation: health checks, alerts, housekeeping, and the clients of Airflow and Ray.

Imports everything in `make_us_rich` but `embedded` and `cli`.
"""
