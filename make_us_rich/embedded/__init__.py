"""The embedded stack: real servers installed from wheels, on loopback, supervised by supervisord, for one machine.

May import everything in `make_us_rich` but `cli`.
"""
