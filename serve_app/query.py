"""No query parameter is ignored: a misspelt one would be, and its caller think that it was not."""

from __future__ import annotations

from collections.abc import Collection

from fastapi import Request

from serve_app.problems import Problem


def check_query(request: Request, taken: Collection[str]) -> None:
    """Raises Problem 422 for a parameter that is not among `taken`."""
    for name in request.query_params:
        if name == "token" and name not in taken:
            detail = "the token goes into the header 'Authorization: Bearer TOKEN'"
            raise Problem(422, "bad-input", detail, field=name)
        if name not in taken:
            takes = f"it takes {', '.join(sorted(taken))}" if taken else "it takes none"
            detail = f"{name[:40]!r} is no parameter of this endpoint: {takes}"
            raise Problem(422, "bad-input", detail, field="query")
