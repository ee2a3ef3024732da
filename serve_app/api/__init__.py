"""The HTTP API: the application, its routes and their documents, the dependencies of a route, and the middleware.

Imports `serve_app.gateway`, `serve_app.problems`, `serve_app.metrics` and `make_us_rich`.
"""
