"""The model registry on MLflow: reading it, publishing to it, and deciding which version is champion.

Imports `core`, `documents`, `database`, and `forecasting` for what it publishes.
"""
