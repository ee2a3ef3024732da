"""Users, their API tokens and what they consumed, in Postgres. Parameterised SQL only.

database.py     the connections          users.py    log in, passwords, sessions
passwords.py    rules and hashes         links.py    one-time links that set a password
tokens.py       API tokens               admin.py    what an admin does to other accounts
consumption.py  calls of the month       audit.py    who did what to whom
throttle.py     how often one may guess  sessions.py  sessions that were logged out
names.py        when names are one, look alike, or are reserved
"""

from __future__ import annotations

import secrets

from make_us_rich.accounts.admin import AccountRow, Administration, Plan, give_plan
from make_us_rich.accounts.audit import AuditEntry, AuditLog
from make_us_rich.accounts.links import PasswordLinks, link_url
from make_us_rich.accounts.names import COMMAND_LINE, fold
from make_us_rich.accounts.passwords import check_password
from make_us_rich.accounts.quota import Consumption, Usage, next_month
from make_us_rich.accounts.sessions import Sessions
from make_us_rich.accounts.throttle import Limit, Throttle
from make_us_rich.accounts.tokens import DASHBOARD, OWNER, TOKEN_PREFIX, Token, TokenOwner, Tokens
from make_us_rich.accounts.users import ADMIN, MEMBER, SERVICE_USER, User

__all__ = [
    "ADMIN",
    "COMMAND_LINE",
    "MEMBER",
    "TOKEN_PREFIX",
    "AccountRow",
    "Accounts",
    "AuditEntry",
    "Limit",
    "Plan",
    "Token",
    "TokenOwner",
    "Usage",
    "User",
    "check_password",
    "fold",
    "link_url",
    "next_month",
]


class Accounts(Sessions, PasswordLinks, Tokens, Consumption, Administration, AuditLog, Throttle):
    """All of the accounts, one file a part. Safe to share between threads; connects on first use."""

    def ensure_service_token(self, plaintext: str) -> None:
        """Make this the pipeline's own admin token, of a user that cannot log in; the one before ends."""
        self._keep_only_token(self._service_user(), SERVICE_USER, plaintext, OWNER)

    def ensure_dashboard_token(self, plaintext: str) -> None:
        """Make this the dashboard's token, which may only do what the dashboard needs; the one before ends."""
        self._keep_only_token(self._service_user(), DASHBOARD, plaintext, DASHBOARD)

    def _service_user(self) -> int:
        service = self.ensure_user(SERVICE_USER, secrets.token_urlsafe(32), role=ADMIN)
        with self._cursor() as cursor:
            give_plan(cursor, service.user_id, SERVICE_USER)
        return service.user_id
