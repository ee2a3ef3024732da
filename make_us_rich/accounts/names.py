"""User names: when two are the same, when two look the same, and which nobody may choose."""

from __future__ import annotations

import re
import unicodedata

from make_us_rich.core.errors import InputError

SHORTEST_NAME, LONGEST_NAME = 3, 64
STRANGER, COMMAND_LINE = "stranger", "command line"
"""Who the audit log names where no account acts."""
_MARKS = re.compile("[\u0300-\u036f]")
_LOOKS_LIKE = str.maketrans("01i|", "olll")
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


def fold(name: str) -> str:
    """The name without differences of case and width. Two names of one fold are one name."""
    return _nfkc(_nfkc(name).casefold())


def look(name: str) -> str:
    """The name without accents, and with one letter for those that look alike: "Ädm1n" and "admin" are both "admln".

    After the skeletons of Unicode TS 39; a short table does, because `checked_name` takes Latin letters only.
    """
    bare = _MARKS.sub("", unicodedata.normalize("NFKD", fold(name)))
    return bare.translate(_LOOKS_LIKE).replace("rn", "m").replace("vv", "w")


def checked_name(name: str) -> str:
    """A new account's name, normalised. Raises InputError."""
    made = _nfkc(name)
    if made != made.strip() or not SHORTEST_NAME <= len(made) <= LONGEST_NAME or not made.isprintable():
        raise InputError(
            f"a name has {SHORTEST_NAME} to {LONGEST_NAME} printable characters and no space around it", field="name"
        )
    if not look(made).isascii():
        raise InputError("a name has Latin letters, with or without accents, digits and signs", field="name")
    return made


def is_reserved(name: str) -> bool:
    """Whether a name could be taken for the operators' or for a part of the system, as "Adm1n_2" could."""
    return _letters(name) in {_letters(reserved) for reserved in _RESERVED}


def _letters(name: str) -> str:
    return re.sub("[^a-z]", "", look(name))


def _nfkc(text: str) -> str:
    return unicodedata.normalize("NFKC", text)
