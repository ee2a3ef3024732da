"""Computes forecasts: each pair has a forecaster, which keeps its model and its candles up to date.

Imports `make_us_rich` and `serve_app.metrics`; it runs without FastAPI, which takes 0.3 s to import.
"""
