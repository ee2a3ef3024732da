"""The HTTP API: routes, documents, errors, and the middleware around each request.

Imports `serve_app.gateway` and `make_us_rich`.
"""
