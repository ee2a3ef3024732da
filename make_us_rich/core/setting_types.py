"""The types of settings: each address, number, name and secret is checked where it is read, in one way.

A refusal names the variable, the value that was seen and the way out. It never shows a secret: not the value of a
secret setting, and nothing of an address with an `@` or after its `?` or `#`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated
from urllib.parse import unquote

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr, StringConstraints, ValidationError

_HOST = r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)(:[0-9]{1,5})?"
_POSTGRES = "write postgresql://USER:PASSWORD@HOST:PORT/DATABASE"


def _address(text: str, schemes: tuple[str, ...], *, path: bool, query: bool = False) -> str:
    """Return an address without a slash at its end. Raises ValueError, whose text quotes nothing of the address."""
    wanted = f"write {' or '.join(f'{scheme}://' for scheme in schemes)} and a host, such as {schemes[-1]}://"
    wanted += "host.example:8000"
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() not in schemes or not rest.isprintable() or " " in rest or "\\" in rest:
        raise ValueError(wanted)
    authority, slash, below = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    if "@" in rest:
        raise ValueError("an address holds no user and no password: they have settings of their own")
    if not re.fullmatch(_HOST, authority) or _bad_port(authority):
        raise ValueError(f"{wanted}; ports are 1 to 65535")
    if "#" in rest or ("?" in rest and not query):
        raise ValueError("an address ends before `?` and `#`: remove what follows")
    if below and not path:
        raise ValueError("a path is not supported: give the service a host or a port of its own, and remove the path")
    return f"{scheme.lower()}://{authority}{slash}{rest[len(authority + slash) :]}".rstrip("/")


def _bad_port(authority: str) -> bool:
    port = authority.rpartition("]")[2].partition(":")[2]
    return port != "" and not 1 <= int(port) <= 65535


def _checked_address(*schemes: str, path: bool = False, empty: bool = False) -> AfterValidator:
    return AfterValidator(lambda text: "" if empty and not text else _address(text, schemes, path=path))


HostAddress = Annotated[str, _checked_address("https", "http")]
"""`http://host:port` without a path, which our clients or pages would lose."""
OptionalHostAddress = Annotated[str, _checked_address("https", "http", empty=True)]
BaseAddress = Annotated[str, _checked_address("https", "http", path=True)]
"""An address below which paths are asked for."""
OptionalBaseAddress = Annotated[str, _checked_address("https", "http", path=True, empty=True)]
OptionalStreamAddress = Annotated[str, _checked_address("wss", "ws", path=True, empty=True)]


def _origin(text: str) -> str:
    return text if text == "*" else _address(text, ("https", "http"), path=False)


Origin = Annotated[str, AfterValidator(_origin)]
"""A web origin, or `*` for every one."""


def _secret(check: Callable[[str], object]) -> AfterValidator:
    """Check a secret that is given; an empty one means that the component does not need it."""

    def checked(value: SecretStr) -> SecretStr:
        if text := value.get_secret_value():
            check(text)
        return value

    return AfterValidator(checked)


def _password(text: str) -> None:
    if not text.isprintable():
        raise ValueError("contains a line break or another control character: set it without")


def _header_secret(text: str) -> None:
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError("goes into HTTP headers: use letters, digits and signs of ASCII, without spaces")


def _postgres_url(text: str) -> None:
    scheme, separator, rest = text.partition("://")
    authority, _, database = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    login, _, hosts = authority.rpartition("@")
    if scheme not in ("postgresql", "postgres") or not separator:
        raise ValueError(_POSTGRES)
    if (
        not text.isprintable()
        or re.search(r"[\s#\\]", text)
        or "@" in database
        or re.search("%(?![0-9a-fA-F]{2})", text)
    ):
        raise ValueError(f"{_POSTGRES}; in a password write %40 for @, %3A for :, %2F for /, %23 for #, %25 for %")
    if "@" in login or not all(re.fullmatch(_HOST, host) and not _bad_port(host) for host in hosts.split(",")):
        raise ValueError(f"{_POSTGRES}: its host or port is none, or the password holds a sign to be written as %..")
    if not database or "/" in database:
        raise ValueError(f"{_POSTGRES}: the name of the database is missing, or more than a name")
    if "\0" in unquote(text):
        raise ValueError(f"{_POSTGRES}: it contains %00")


Password = Annotated[SecretStr, _secret(_password)]
HeaderSecret = Annotated[SecretStr, _secret(_header_secret)]
"""A key or token, which is sent in HTTP headers."""
PostgresAddress = Annotated[SecretStr, _secret(_postgres_url)]
WebhookAddress = Annotated[SecretStr, _secret(lambda text: _address(text, ("https", "http"), path=True, query=True))]

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@+-]{0,99}$")]
"""The name of a user, region or architecture."""


def least_and_most(text: str) -> tuple[int, int]:
    """Read a ReplicaRange."""
    least, _, most = text.partition("-")
    return int(least), int(most or least)


def _replica_range(text: str) -> str:
    if (
        not re.fullmatch(r"[1-9][0-9]{0,2}(-[1-9][0-9]{0,2})?", text)
        or least_and_most(text)[0] > least_and_most(text)[1]
    ):
        raise ValueError("write a number of 1 to 999, such as 2, or the least and the most, such as 1-4")
    return text


ReplicaRange = Annotated[str, AfterValidator(_replica_range)]
"""A number of replicas, or `LEAST-MOST`."""
Bucket = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
Folder = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f]{1,1000}$")]


def _plain_digits(value: object) -> object:
    if isinstance(value, str) and "_" in value:
        raise ValueError("write the number with digits alone")
    return value


Whole = Annotated[int, BeforeValidator(_plain_digits)]
Number = Annotated[float, BeforeValidator(_plain_digits), Field(allow_inf_nan=False)]


def explain(model: type[BaseModel], error: ValidationError) -> str:
    """Return what is wrong, by the names of the variables."""
    lines = []
    for item in error.errors(include_url=False, include_context=False):
        text = item["msg"].removeprefix("Value error, ")
        if not item["loc"]:
            lines.append(text)
            continue
        name = str(item["loc"][0])
        field = model.model_fields.get(name)
        secret = field is None or field.annotation is SecretStr
        seen = "" if secret else f" (it is {_shown(item['input'])})"
        lines.append(f"MUR_{name.upper()}: {text}{seen}")
    return "; ".join(lines)


def _shown(value: object) -> str:
    """Return the beginning of a value, without what may be a password or a key of an address."""
    text = str(value)
    if "@" in text:
        return repr(f"{text.partition('://')[0][:20]}://…" if "://" in text else "…")
    shown = re.split(r"[?#]", text, maxsplit=1)[0][:60]
    return repr(shown if shown == text else f"{shown}…")
