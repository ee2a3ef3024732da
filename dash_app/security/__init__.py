"""Who may see what: log-in, sessions, throttling, and checks of each callback.

Imports `make_us_rich` and `dash_app.components`.
"""
