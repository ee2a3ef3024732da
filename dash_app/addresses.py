"""What a page's address asks for."""

from __future__ import annotations

from urllib.parse import parse_qs


def asked_pair(search: str | None) -> str:
    """Of the part after the path, such as ?pair=btc_usdt; empty when there is none."""
    return parse_qs((search or "").lstrip("?")).get("pair", [""])[0]
