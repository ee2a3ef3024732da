"""Users, their API tokens and quotas, and what protects their accounts: passwords, throttling, links, the audit log.

Imports `core` and `database` alone. `Accounts` composes the parts over one `Database`.
"""

from __future__ import annotations

import secrets
from typing import Self

from make_us_rich.accounts.admin import AccountRow, Administration, PasswordLinks, link_url
from make_us_rich.accounts.audit import COMMAND_LINE, AuditLog
from make_us_rich.accounts.credentials import name_key
from make_us_rich.accounts.limits import Limit, Quota, Throttle, Usage, next_month
from make_us_rich.accounts.sessions import Session, SessionCookie, Sessions
from make_us_rich.accounts.tokens import DASHBOARD, OWNER, TOKEN_PREFIX, Token, TokenOwner, Tokens
from make_us_rich.accounts.users import ADMIN, MEMBER, SERVICE_USER, User, Users, assign_plan
from make_us_rich.database.pool import Database

__all__ = [
    "ADMIN",
    "COMMAND_LINE",
    "MEMBER",
    "TOKEN_PREFIX",
    "AccountRow",
    "Accounts",
    "Limit",
    "Session",
    "SessionCookie",
    "Token",
    "TokenOwner",
    "Usage",
    "User",
    "link_url",
    "name_key",
    "next_month",
]


class Accounts:
    """All parts of the accounts over one database. Threads may share it; as a context manager it closes the pool."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.users = Users(database)
        self.sessions = Sessions(database)
        self.tokens = Tokens(database)
        self.quota = Quota(database)
        self.links = PasswordLinks(database)
        self.throttle = Throttle(database)
        self.admin = Administration(database)
        self.audit = AuditLog(database)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.database.close()

    def ensure_service_token(self, plaintext: str) -> None:
        """Make this the pipeline's admin token and revoke the one before. Its user cannot log in."""
        self.tokens.replace(self._service_user(), SERVICE_USER, plaintext, OWNER)

    def ensure_dashboard_token(self, plaintext: str) -> None:
        """Make this the dashboard's token, with the dashboard's scope, and revoke the one before."""
        self.tokens.replace(self._service_user(), DASHBOARD, plaintext, DASHBOARD)

    def _service_user(self) -> int:
        service = self.users.ensure(SERVICE_USER, secrets.token_urlsafe(32), role=ADMIN)
        with self.database.transaction() as cursor:
            assign_plan(cursor, service.user_id, SERVICE_USER)
        return service.user_id
