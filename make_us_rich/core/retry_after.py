"""The header Retry-After of HTTP: seconds, or a date."""

from __future__ import annotations

import math
import time
from email.utils import parsedate_to_datetime


def read_retry_after(text: str | None) -> float | None:
    """Return the seconds to wait, zero or more; None if the header is absent or nonsense."""
    try:
        seconds = float(text or "")
    except ValueError:
        try:
            seconds = max(0.0, parsedate_to_datetime(text or "").timestamp() - time.time())
        except (ValueError, OverflowError):
            return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
