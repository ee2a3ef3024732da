"""The errors that several modules raise or that scripts catch. An error of one module is defined in that module.

MakeUsRichError
├── SettingsError            a setting is missing, malformed or unsafe
├── InputError               the caller's mistake; `field` names what to change
│   ├── UnknownPair
│   ├── BadCandles           rows that break the candle rules
│   └── NotEnoughHistory     fewer usable candles than needed
├── MarketError              the exchange refused or failed
│   ├── MarketUnavailable    timeout, 5xx or an unreadable answer: retry
│   ├── RateLimited          429, 418 or 403 of its firewall; `retry_after_s` says when to retry
│   ├── LocationRefused      451: the exchange serves no client in this country or cloud
│   └── PairNotTraded        unknown to the exchange, halted or delisted; `idle_ms` says for how long
├── StoreError               S3 refused or cannot be reached
├── RegistryError            the model registry refused or failed
│   ├── UnknownVersion       no such version, or no previous champion
│   └── BadModel             the model fails its checks: never promoted, never served
├── NoPlacement              the Ray cluster has no place for a training worker
├── ServingError             Ray Serve refused or is late, or a replica refuses its model
├── AccountError
│   ├── NameTaken
│   ├── WrongCredentials
│   ├── BadLink              the password link was used, is too old or was never made
│   ├── TooManyAttempts      `retry_after_s` says when to retry
│   ├── UnknownToken         missing, never issued or revoked, or its owner is locked
│   └── QuotaExceeded        `resets_at` says when calls are allowed again
└── StackError               the embedded stack cannot start or lost a component
    ├── PortTaken
    └── ComponentDied
"""

from __future__ import annotations

import math
from datetime import datetime


class MakeUsRichError(Exception):
    """Base class of all of them: `except MakeUsRichError` catches what this project raises on purpose."""

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle without calling the constructor, which may need keywords: Ray sends the errors of its workers so."""
        return _restore, (type(self), self.args, vars(self))


def _restore(kind: type[MakeUsRichError], args: tuple[object, ...], details: dict[str, object]) -> MakeUsRichError:
    error = kind.__new__(kind, *args)
    vars(error).update(details)
    return error


class SettingsError(MakeUsRichError):
    pass


class InputError(MakeUsRichError):
    """The caller's mistake: `field` names the input to change, the message says how."""

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field


class UnknownPair(InputError):
    def __init__(self, message: str, *, field: str = "pair") -> None:
        super().__init__(message, field=field)


class BadCandles(InputError):
    def __init__(self, message: str, *, field: str = "candles") -> None:
        super().__init__(message, field=field)


class NotEnoughHistory(InputError):
    def __init__(self, message: str, *, field: str = "candles") -> None:
        super().__init__(message, field=field)


class MarketError(MakeUsRichError):
    pass


class MarketUnavailable(MarketError):
    pass


class RateLimited(MarketError):
    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class LocationRefused(MarketError):
    pass


class PairNotTraded(MarketError):
    """`idle_ms`: milliseconds since the last candle; infinite for a pair that the exchange does not know."""

    def __init__(self, message: str, *, idle_ms: float = math.inf) -> None:
        super().__init__(message)
        self.idle_ms = idle_ms


class StoreError(MakeUsRichError):
    pass


class RegistryError(MakeUsRichError):
    pass


class UnknownVersion(RegistryError):
    pass


class BadModel(RegistryError):
    pass


class NoPlacement(MakeUsRichError):
    """The Ray cluster has no place for a training worker."""


class ServingError(MakeUsRichError):
    pass


class AccountError(MakeUsRichError):
    pass


class NameTaken(AccountError):
    pass


class WrongCredentials(AccountError):
    pass


class BadLink(AccountError):
    pass


class TooManyAttempts(AccountError):
    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UnknownToken(AccountError):
    pass


class QuotaExceeded(AccountError):
    def __init__(self, message: str, *, limit: int, resets_at: datetime) -> None:
        super().__init__(message)
        self.limit = limit
        self.resets_at = resets_at


class StackError(MakeUsRichError):
    pass


class PortTaken(StackError):
    pass


class ComponentDied(StackError):
    pass
