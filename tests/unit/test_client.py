"""The Python client: what it makes of tokens and addresses as people have them, and what it says without an answer."""

from __future__ import annotations

import httpx
import pytest

from make_us_rich import client
from make_us_rich.client import Client, ServiceUnavailable
from make_us_rich.core.errors import InputError
from tests.support.fixed_response import fixed_response_server
from tests.support.processes import free_port

TOKEN = "mur_0123456789abcdef-_"
NOWHERE = "http://127.0.0.1:9"


def sent_token(token: str | None) -> str | None:
    with Client(NOWHERE, token) as api:
        return api._http.headers.get("Authorization")


@pytest.mark.parametrize(
    "text", ["{}", "{}\n", "{}\r\n", "{} ", "\t{}", "\u00a0{}\u2028", "Bearer {}", "bearer  {}\n", "\n{}\n\n"]
)
def test_white_space_around_a_token_is_left_out(text: str) -> None:
    assert sent_token(text.format(TOKEN)) == f"Bearer {TOKEN}"


@pytest.mark.parametrize("token", [None, "", "\n", "  "])
def test_without_a_token_no_header_is_sent(token: str | None) -> None:
    assert sent_token(token) is None


@pytest.mark.parametrize(
    ("token", "position"),
    [
        ("mur_0123456789abcd\u00e9f", 19),
        ("mur_01\n23", 7),
        ("mur_ 01", 5),
        ("\ufeffmur_01", 1),
        ("mur_\u0661", 5),
        ("mur_\0", 5),
    ],
)
def test_a_token_that_no_header_can_have_is_named_and_not_shown(token: str, position: int) -> None:
    with pytest.raises(InputError, match=f"the token has a character at position {position} ") as caught:
        Client(NOWHERE, token)
    assert caught.value.field == "token"
    assert "mur_" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:28000",
        "localhost",
        "ftp://host",
        "http://",
        "http://ho st",
        "http://[::1",
        "http://h:99999",
        "http://h:x",
        "http://h/?a=1",
        "http://h/#a",
        "http://user:pass@h",
        "http://h\u00f6st",
    ],
)
def test_an_address_that_is_none_is_named(url: str) -> None:
    with pytest.raises(InputError, match="the address of the API must be such as http") as caught:
        Client(url, TOKEN)
    assert caught.value.field == "api_url"


@pytest.mark.parametrize("url", ["http://host:28000/v1", "https://host/mur/v1/"])
def test_an_address_with_the_version_is_named(url: str) -> None:
    with pytest.raises(InputError, match="leave /v1 out of the address of the API: http"):
        Client(url, TOKEN)


def test_white_space_around_an_address_is_left_out() -> None:
    with fixed_response_server(200, b'{"pairs": []}', "application/json") as url:
        for spelling in (f" {url}\n", f"{url}/"):
            with Client(spelling, TOKEN) as api:
                assert api.pairs() == []


@pytest.mark.parametrize(
    "call", [lambda api: api.pairs(), lambda api: api.readiness(), lambda api: api.update_models()]
)
@pytest.mark.parametrize(("scheme", "cause"), [("http", "refused"), ("https", "refused")])
def test_a_call_without_an_answer_says_the_address_and_the_cause(
    monkeypatch: pytest.MonkeyPatch, call: object, scheme: str, cause: str
) -> None:
    monkeypatch.setattr(client, "_PAUSE_S", 0.0)
    url = f"{scheme}://127.0.0.1:{free_port()}"
    with Client(url, TOKEN) as api, pytest.raises(ServiceUnavailable, match=f"at {url} cannot be reached: .*{cause}"):
        call(api)  # type: ignore[operator]


def test_a_late_answer_is_named_with_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*_: object, **__: object) -> httpx.Response:
        raise httpx.ReadTimeout("")

    with Client(NOWHERE, TOKEN) as api:
        monkeypatch.setattr(api._http, "get", late)
        with pytest.raises(ServiceUnavailable, match=f"at {NOWHERE} cannot be reached: no answer within 5 s"):
            api.pairs()
