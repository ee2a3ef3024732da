"""Running an installation: health checks, the watchdog, alerts, housekeeping, and HAProxy's configuration.

Imports everything in `make_us_rich` but `embedded` and `cli`.
"""
