"""Conditional requests: whether the client has the answer already (RFC 9110, 13.1.2)."""

from __future__ import annotations

import re

_OPAQUE_TAG = re.compile(r'"[^"]*"')


def is_known(if_none_match: str, etag: str) -> bool:
    """Tell whether `If-None-Match`, a list of ETags or `*`, has this ETag. A weak one equals the strong one."""
    if if_none_match.strip() == "*":
        return True
    return etag.removeprefix("W/") in _OPAQUE_TAG.findall(if_none_match)
