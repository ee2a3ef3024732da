"""Candles: their rules, the exchange that they come from, and the object store that keeps them.

Imports `core` and `documents` alone; pandas is imported only inside functions.
"""
