"""What a password must be, and how it is kept."""

from __future__ import annotations

import secrets

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from make_us_rich.core.errors import InputError

SHORTEST, LONGEST = 10, 1024
# zxcvbn's scale: below 3, fewer than 10^8 guesses find it. It reads 72 characters at most, in reasonable time.
_WEAKEST_SCORE = 3
_SCORED_CHARS = 72

_HASHER = PasswordHasher()
_NOBODYS = _HASHER.hash(secrets.token_hex(16))


def check_password(password: str, name: str) -> None:
    """Raises InputError when a password is too short, too long, easy to guess, or the name itself."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise InputError(f"a password has {SHORTEST} characters or more, up to {LONGEST}", field="password")
    if name.lower() in password.lower() and len(password) < len(name) + SHORTEST:
        raise InputError("the password is the name with little added: choose another", field="password")
    if _score(password, name) < _WEAKEST_SCORE:
        raise InputError(
            "the password is easy to guess: avoid common words, dates and patterns, or use more words", field="password"
        )


def hash_password(password: str) -> str:
    return _HASHER.hash(password)


def matches(hashed: str | None, password: str) -> bool:
    """Takes as long for nobody's password (None) as for somebody's."""
    try:
        return _HASHER.verify(hashed or _NOBODYS, password[:LONGEST]) and hashed is not None
    except (VerificationError, InvalidHashError):
        return False


def is_outdated(hashed: str) -> bool:
    """Whether it was hashed at another cost than today's."""
    return _HASHER.check_needs_rehash(hashed)


def _score(password: str, name: str) -> int:
    from zxcvbn import zxcvbn  # 1 MiB of word lists, for the few processes that take a new password

    score: int = zxcvbn(password[:_SCORED_CHARS], user_inputs=[name])["score"]
    return score
