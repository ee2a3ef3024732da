"""The proxy of the user's shell: for the exchange and Discord, never for this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_SCHEMES = ("http", "https", "all")
_USABLE = r"(https?://.+|[^:/@]+(:[0-9]+)?/?)"  # the latter without a scheme: HTTP


def proxy_variables(environment: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return the proxy variables of an environment with loopback excepted, and the names of those that are left out.

    These are SOCKS proxies and what is no address: without an extra package, HTTP clients fail at any call with them.
    """
    kept: dict[str, str] = {}
    left_out = []
    for scheme in _SCHEMES:
        for name in (f"{scheme}_proxy", f"{scheme}_PROXY".upper()):
            address = environment.get(name, "").strip()
            if address and re.fullmatch(_USABLE, address):
                kept[name] = address
            elif address:
                left_out.append(name)
    excepted = [name.strip() for key in ("no_proxy", "NO_PROXY") for name in environment.get(key, "").split(",")]
    hosts = "*" if "*" in excepted else ",".join(dict.fromkeys(name for name in (*excepted, *_LOOPBACK) if name))
    return kept | {"no_proxy": hosts, "NO_PROXY": hosts}, left_out


def is_proxy_variable(name: str) -> bool:
    """Return whether programs read a variable as the address of a proxy, or as hosts without one."""
    return name.lower() in {"no_proxy", *(f"{scheme}_proxy" for scheme in _SCHEMES)}


def except_loopback() -> list[str]:
    """Change the proxy variables of this process to those of `proxy_variables`; return what is left out."""
    kept, left_out = proxy_variables(os.environ)
    for name in left_out:
        del os.environ[name]
    os.environ.update(kept)
    return left_out
