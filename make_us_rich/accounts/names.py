"""User names: which of them are equal, which look alike, and which are reserved."""

from __future__ import annotations

import re
import unicodedata

from make_us_rich.core.errors import InputError

MIN_LENGTH, MAX_LENGTH = 3, 64
STRANGER, COMMAND_LINE = "stranger", "command line"
"""The audit log's actors that are no account."""

_ACCENTS = re.compile("[\u0300-\u036f]")
_CONFUSABLES = str.maketrans("01i|", "olll")
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
    if normal != normal.strip() or not MIN_LENGTH <= len(normal) <= MAX_LENGTH or not normal.isprintable():
        raise InputError(
            f"a name has {MIN_LENGTH} to {MAX_LENGTH} printable characters and no space around it", field="name"
        )
    if not skeleton(normal).isascii():
        raise InputError("a name has Latin letters, with or without accents, digits and signs", field="name")
    return normal


def is_reserved(name: str) -> bool:
    """True for a name that could be mistaken for an operator's or a part of the system's, such as "Adm1n_2"."""
    return _letters(name) in {_letters(reserved) for reserved in _RESERVED}


def _letters(name: str) -> str:
    return re.sub("[^a-z]", "", skeleton(name))


def _nfkc(text: str) -> str:
    return unicodedata.normalize("NFKC", text)
