"""What a secret must be in production."""

from __future__ import annotations

from urllib.parse import urlsplit

DEVELOPMENT_SECRET = "development-only"
_PLACEHOLDERS = (DEVELOPMENT_SECRET, "change-me", "changeme", "change_me", "password")
_SHORTEST, _FEWEST_DIFFERENT = 12, 5


def secret_fault(value: str) -> str:
    """Why a secret is refused, in words that do not show it; empty when it is fine.

    Of a URL its password is judged. An empty secret is fine: a component is not given what it need not know.
    """
    secret = (urlsplit(value).password or "") if "://" in value else value
    for placeholder in _PLACEHOLDERS:
        if placeholder in secret.lower():
            return f"contains the placeholder {placeholder!r}"
    if secret and len(secret) < _SHORTEST:
        return f"has fewer than {_SHORTEST} characters"
    if secret and len(set(secret)) < _FEWEST_DIFFERENT:
        return f"has fewer than {_FEWEST_DIFFERENT} different characters"
    return ""
