"""Entry points that run on the Ray cluster: training of pairs, of the foundation model, and backtests.

Imports `make_us_rich`, and no other application.
"""
