"""Settings, errors, and the value objects `Pair` and `Interval`, which every other part uses.

Imports nothing of this project outside this package.
"""
