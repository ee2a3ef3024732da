"""What the gateway does for each call: authentication, quota, cached forecasts, and calls to the replicas.

Imports `make_us_rich`; the application itself (`app.py`) also imports `serve_app.api`.
"""
