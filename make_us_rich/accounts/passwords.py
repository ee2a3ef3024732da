"""Rules for new passwords, and their argon2 hashes."""

from __future__ import annotations

import secrets

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from make_us_rich.core.errors import InputError

MIN_LENGTH, MAX_LENGTH = 10, 1024
# zxcvbn scores 0 to 4; below 3, fewer than 10^8 guesses are enough. Its time grows with the length, so it reads a part.
_MIN_SCORE = 3
_SCORED_CHARS = 72

_HASHER = PasswordHasher()
_DUMMY_HASH = _HASHER.hash(secrets.token_hex(16))


def check_password(password: str, name: str) -> None:
    """Raise InputError when a password is too short, too long, easy to guess, or nearly the name itself."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise InputError(f"a password has {MIN_LENGTH} characters or more, up to {MAX_LENGTH}", field="password")
    if name.lower() in password.lower() and len(password) < len(name) + MIN_LENGTH:
        raise InputError("the password is the name with little added: choose another", field="password")
    if _score(password, name) < _MIN_SCORE:
        raise InputError(
            "the password is easy to guess: avoid common words, dates and patterns, or use more words", field="password"
        )


def hash_password(password: str) -> str:
    return _HASHER.hash(password)


def matches(hashed: str | None, password: str) -> bool:
    """Check a password against its hash. Without a hash it fails after the same time, so unknown names do not show."""
    try:
        return _HASHER.verify(hashed or _DUMMY_HASH, password[:MAX_LENGTH]) and hashed is not None
    except (VerificationError, InvalidHashError):
        return False


def is_outdated(hashed: str) -> bool:
    """True for a hash that was made with other cost parameters than today's."""
    return _HASHER.check_needs_rehash(hashed)


def _score(password: str, name: str) -> int:
    from zxcvbn import zxcvbn  # loads 1 MiB of word lists, which only processes that set passwords need

    score: int = zxcvbn(password[:_SCORED_CHARS], user_inputs=[name])["score"]
    return score
