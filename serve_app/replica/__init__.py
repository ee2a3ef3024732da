"""What computes forecasts: one forecaster for each pair, which keeps its model and its candles up to date.

Imports `make_us_rich` alone.
"""
