"""The HTTP API on Ray Serve: `api` in front, `gateway` behind it, and one replica for each pair or pool of pairs.

Imports `make_us_rich`, and neither torch nor pandas nor mlflow.
"""
