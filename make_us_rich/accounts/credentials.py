"""Rules for user names and passwords, and the argon2 hashes of passwords.

Two names that look alike cannot both have an account, and some names are reserved.
"""

from __future__ import annotations

import re
import secrets
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from make_us_rich.accounts.audit import COMMAND_LINE, STRANGER
from make_us_rich.core.errors import InputError

_MIN_NAME_LENGTH, MAX_NAME_LENGTH = 3, 64
_ACCENTS = re.compile("[\u0300-\u036f]")
_CONFUSABLES = str.maketrans("01i|", "olll")
_STAND_FOR = str.maketrans("@4835$!679+2€£", "aabesslbtgtzel")
_RESERVED = (
    "admin",
    "administrator",
    "root",
    "service",
    "dashboard",
    "system",
    "support",
    "nobody",
    STRANGER,
    COMMAND_LINE,
)

_MIN_PASSWORD_LENGTH, _MAX_PASSWORD_LENGTH = 10, 1024
# zxcvbn scores 0 to 4; below 3, fewer than 10^8 guesses are enough. Its time grows with the length, so it reads a part.
_MIN_SCORE = 3
_SCORED_CHARS = 72

_HASHER = PasswordHasher()
_DUMMY_HASH = _HASHER.hash(secrets.token_hex(16))


def name_key(name: str) -> str:
    """Return the name without differences of case and width. Two names with the same key are the same name."""
    return _nfkc(_nfkc(name).casefold())


def skeleton(name: str) -> str:
    """Return the name without accents and with one letter for those that look alike: "Ädm1n" becomes "admln".

    Follows the skeletons of Unicode TS 39; this short table is enough, because `checked_name` takes only Latin letters.
    The table `users` keeps it in its column `look`.
    """
    bare = _ACCENTS.sub("", unicodedata.normalize("NFKD", name_key(name)))
    return bare.translate(_CONFUSABLES).replace("rn", "m").replace("vv", "w")


def checked_name(name: str) -> str:
    """Return a new account's name in its normal form. Raises InputError."""
    normal = _nfkc(name)
    if normal != normal.strip() or not _MIN_NAME_LENGTH <= len(normal) <= MAX_NAME_LENGTH or not normal.isprintable():
        raise InputError(
            f"a name has {_MIN_NAME_LENGTH} to {MAX_NAME_LENGTH} printable characters and no space around it",
            field="name",
        )
    if not skeleton(normal).isascii():
        raise InputError("a name has Latin letters, with or without accents, digits and signs", field="name")
    return normal


def is_reserved(name: str) -> bool:
    """True for a name that could be mistaken for an operator's or a part of the system's: "Adm1n_2" and "4dmin".

    Digits and signs are left out, read as the letters that they stand for, or left out at both ends and read within.
    """
    spelled = skeleton(name)
    within = skeleton(name_key(name).strip("0123456789 _.-"))
    readings = {spelled, spelled.translate(_STAND_FOR), within.translate(_STAND_FOR)}
    return not {_letters(reading) for reading in readings}.isdisjoint(map(_letters, map(skeleton, _RESERVED)))


def _letters(spelled: str) -> str:
    return re.sub("[^a-z]", "", spelled).replace("cl", "d")


def _nfkc(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


def check_password(password: str, name: str) -> None:
    """Raise InputError when a password is too short, too long, easy to guess, or nearly the name itself."""
    if not _MIN_PASSWORD_LENGTH <= len(password) <= _MAX_PASSWORD_LENGTH:
        raise InputError(
            f"a password has {_MIN_PASSWORD_LENGTH} characters or more, up to {_MAX_PASSWORD_LENGTH}", field="password"
        )
    if name.lower() in password.lower() and len(password) < len(name) + _MIN_PASSWORD_LENGTH:
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
        return _HASHER.verify(hashed or _DUMMY_HASH, password[:_MAX_PASSWORD_LENGTH]) and hashed is not None
    except (VerificationError, InvalidHashError):
        return False


def is_outdated(hashed: str) -> bool:
    """True for a hash that was made with other cost parameters than today's."""
    return _HASHER.check_needs_rehash(hashed)


def _score(password: str, name: str) -> int:
    from zxcvbn import zxcvbn  # loads 1 MiB of word lists, which only processes that set passwords need

    score: int = zxcvbn(password[:_SCORED_CHARS], user_inputs=[name])["score"]
    return score
