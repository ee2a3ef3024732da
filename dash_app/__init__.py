"""The dashboard: Dash pages behind a log-in, served by waitress.

Imports `make_us_rich` and no other application; it has no SQL and no model: accounts and forecasts come from there.
"""
