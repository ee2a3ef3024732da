"""Whether a secret is strong enough for production."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import urlsplit

DEVELOPMENT_SECRET = "development-only"
_PLACEHOLDERS = (DEVELOPMENT_SECRET, "change-me", "changeme", "change_me", "password")
_MIN_LENGTH, _MIN_DIFFERENT = 12, 5
_MIN_SCORE, _SCORED_CHARS = 4, (24, 72)  # of zxcvbn: its best, and the lengths that it reads
_OUR_NAMES = ["make", "us", "rich", "makeusrich", "mlflow", "airflow", "postgres", "minio", "seaweedfs", "ray"]


def secret_fault(value: str, *, is_name: bool = False) -> str:
    """Return why a secret is too weak, without quoting it; empty when it is strong enough, or empty itself.

    Of a URL, the password is checked. `is_name`: it only names the secret beside it, as an S3 access key does.
    """
    secret = (urlsplit(value).password or "") if "://" in value else value
    for placeholder in _PLACEHOLDERS:
        if placeholder in secret.lower():
            return f"contains the placeholder {placeholder!r}"
    if secret and len(secret) < _MIN_LENGTH:
        return f"has fewer than {_MIN_LENGTH} characters"
    if secret and len(set(secret)) < _MIN_DIFFERENT:
        return f"has fewer than {_MIN_DIFFERENT} different characters"
    if secret and not is_name and _is_easy_to_guess(secret):
        return "is easy to guess: it is a sequence, repeats itself, or consists of common words, names or dates"
    return ""


@lru_cache(maxsize=64)
def _is_easy_to_guess(secret: str) -> bool:
    """True when ten thousand million guesses are enough, which takes a second where a secret's signatures are known."""
    from zxcvbn import zxcvbn  # loads 1 MiB of word lists, which only production needs

    # the time grows with the square of the length, and a part of a good secret is enough
    return all(zxcvbn(secret[:chars], user_inputs=_OUR_NAMES)["score"] < _MIN_SCORE for chars in _SCORED_CHARS)
