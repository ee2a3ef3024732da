"""Log-in, sessions, access rules, throttling, and validation of every callback request.

Imports `make_us_rich` and nothing of the other applications.
"""
