"""The parts behind the HTTP API: tokens, rate limit and quota, cached forecasts, and calls to the replicas.

Imports `make_us_rich`, `serve_app.problems` and `serve_app.metrics`.
"""
