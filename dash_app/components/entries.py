"""Reading what people type: numbers and pairs, as the pages write them and in other spellings with one meaning."""

from __future__ import annotations

import math
import re

_SPACES = r"[ \u00a0\u2009\u202f'\u2019]"
_NUMBERS = (  # with the sign of thousands, and the one of decimals
    (re.compile(r"[1-9][0-9]{0,2}(,[0-9]{3})+(\.[0-9]*)?"), r",", "."),
    (re.compile(r"[1-9][0-9]{0,2}(\.[0-9]{3})+,[0-9]*"), r"\.", ","),
    (re.compile(rf"[1-9][0-9]{{0,2}}({_SPACES}[0-9]{{3}})+([.,][0-9]*)?"), _SPACES, ","),
    (re.compile(r"([0-9]+,?[0-9]*|,[0-9]+)(e[+-]?[0-9]{1,3})?", re.IGNORECASE), "", ","),
    (re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]{1,3})?", re.IGNORECASE), "", "."),
)
_PAIR = re.compile(r"(\w+)\s*[/_-]\s*(\w+)")


def read_number(text: str) -> float | None:
    """Read 90000.5, 90,000.5, 90000,5, 90.000,5, 90 000,5 or 9e4; return None for anything else.

    A comma before the last three digits separates thousands, as in the numbers that the pages show.
    """
    typed = text.strip()
    for form, thousands, decimal in _NUMBERS:
        if form.fullmatch(typed):
            plain = re.sub(thousands, "", typed) if thousands else typed
            number = float(plain.replace(decimal, "."))
            return number if math.isfinite(number) else None
    return None


def pair_slug(text: str) -> str:
    """Write BTC/USDT, BTC / USDT or BTC-USDT as btc_usdt; return any other text as it is."""
    found = _PAIR.fullmatch(text.strip())
    return f"{found[1]}_{found[2]}".lower() if found else text
