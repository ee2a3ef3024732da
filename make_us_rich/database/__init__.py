"""Postgres: connections with time limits, migrations, and one module for each table of pairs, forecasts and scores.

Imports `core` and `documents` alone.
"""
