"""A client that polls a URL while a test disturbs the service, and counts the responses."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import httpx


class ReceivedAnswers:
    """Responses, counted by status, media type and the beginning of an error's body. Status 0: no connection."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[int, str, str]] = Counter()

    def note(self, answer: httpx.Response) -> None:
        about = answer.text[:80] if answer.is_error else ""
        self.counts[answer.status_code, answer.headers.get("Content-Type", ""), about] += 1
        if answer.status_code == 503:
            assert answer.headers["Retry-After"]

    @property
    def statuses(self) -> set[int]:
        return {status for status, _, _ in self.counts}

    def check(self) -> None:
        """Assert that each was a success, a 503 problem document with Retry-After, or a refused connection."""
        wrong = [
            seen for seen in self.counts if seen[0] not in (0, 200) and seen[:2] != (503, "application/problem+json")
        ]
        assert wrong == [], self.counts


@contextmanager
def polling(url: str, token: str = "", every_s: float = 0.5) -> Iterator[ReceivedAnswers]:
    """Poll `url` every `every_s` seconds until the block ends."""
    answers, over = ReceivedAnswers(), threading.Event()
    headers = {"Authorization": f"Bearer {token}"} if token else {}

    def ask() -> None:
        while not over.wait(every_s):
            try:
                answers.note(httpx.get(url, headers=headers, timeout=60))
            except httpx.TransportError:  # refused, or closed when the process behind it was killed
                answers.counts[0, "", ""] += 1

    client = threading.Thread(target=ask)
    client.start()
    try:
        yield answers
    finally:
        over.set()
        client.join()
