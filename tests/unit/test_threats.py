"""The figures of docs/explanation/threats.md are those of the code; other tests show that it keeps to them."""

from __future__ import annotations

import math
import re

from dash_app.__main__ import _IDLE_TIMEOUT_S
from dash_app.app import MAX_BODY
from dash_app.public.request_limit import REQUESTS_PER_MINUTE
from make_us_rich.accounts.sessions import LIFETIME
from make_us_rich.embedded.environment import _readable_password
from make_us_rich.market.candles import HIGHEST_PRICE
from make_us_rich.market.limited_http import Limits
from make_us_rich.operations.haproxy import _REQUEST_S, _SILENCE_S
from serve_app.api.app import MOST_BODY_BYTES
from serve_app.api.schemas import MOST_OWN_CANDLES
from tests.support.processes import PROJECT_ROOT

NUMBERS = {10: "ten"}


def test_every_figure_is_that_of_the_code() -> None:
    page = (PROJECT_ROOT / "docs" / "explanation" / "threats.md").read_text()
    said = (
        f"answers {REQUESTS_PER_MINUTE} requests a minute to one address",
        f"reads up to {MAX_BODY // 2**20} MiB of a request",
        f"closes idle connections after {_IDLE_TIMEOUT_S} s",
        f"a request that takes {_REQUEST_S} s to arrive",
        f"silent for {_SILENCE_S} s",
        f"a session lasts {NUMBERS[LIFETIME.days]} days",
        f"bodies to {MOST_BODY_BYTES // 10**6} MB; candles to {MOST_OWN_CANDLES}",
        f"at most {Limits().max_bytes // 10**6} MB, unpacked, and {Limits().total_s:.0f} s in total",
        f"beyond 1e±{math.log10(HIGHEST_PRICE):.0f}",
        f"its password has {4 * len(_readable_password())} random bits",
    )
    for text in said:
        assert text in page, text


def test_every_place_that_the_page_names_exists() -> None:
    page = (PROJECT_ROOT / "docs" / "explanation" / "threats.md").read_text()
    for path, anchor in re.findall(r"\]\(([^)#]+)#([^)]+)\)", page):
        target = (PROJECT_ROOT / "docs" / "explanation" / path).read_text()
        titles = re.findall(r"^#+ (.*)$", target, flags=re.MULTILINE)
        assert anchor in {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}, anchor
