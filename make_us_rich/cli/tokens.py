"""`mkrich tokens`: API tokens of users, without a browser."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from make_us_rich.accounts import COMMAND_LINE, Accounts, Token, User
from make_us_rich.accounts.users import SERVICE_USER
from make_us_rich.cli.shared import AsJson, database_here, print_json, print_notice, time_cell
from make_us_rich.core.errors import InputError
from make_us_rich.core.terminal import console
from make_us_rich.core.times import to_ms

tokens_app = typer.Typer(help="Create, list and revoke API tokens of users.", no_args_is_help=True)

UserName = Annotated[str, typer.Argument(metavar="USER", help="the account's name")]
TokenName = Annotated[str, typer.Argument(metavar="NAME", help="the token's name, unique among those of the user")]


@tokens_app.command()
def create(user: UserName, name: TokenName) -> None:
    """Create a token and print it alone, for `TOKEN=$(mkrich tokens create USER NAME)`. It is not shown again."""
    with Accounts(database_here()) as accounts:
        plaintext = accounts.tokens.create(_owner(accounts, user).user_id, name, by=COMMAND_LINE)
    typer.echo(plaintext)
    print_notice("keep it: it is stored nowhere and not shown again")


@tokens_app.command("list")
def list_tokens(user: UserName, as_json: AsJson = False) -> None:
    """List a user's tokens that are not revoked, newest first (UTC)."""
    with Accounts(database_here()) as accounts:
        found = accounts.tokens.of_user(accounts.users.named(user).user_id)
    if as_json:
        print_json([asdict(each) for each in found])
        return
    table = Table("name", "begins with", "created", "last used")
    for each in found:
        used = time_cell(to_ms(each.last_used_at)) if each.last_used_at else "never"
        table.add_row(each.name, each.prefix, time_cell(to_ms(each.created_at)), used)
    console.print(table)


@tokens_app.command()
def revoke(user: UserName, name: TokenName) -> None:
    """Revoke a user's token. The API refuses it within 30 seconds."""
    with Accounts(database_here()) as accounts:
        owner = _owner(accounts, user)
        token = _named(accounts.tokens.of_user(owner.user_id), name, owner)
        accounts.tokens.revoke(owner.user_id, token.token_id, by=COMMAND_LINE)
    console.print(f"{owner.name}: the token {token.name!r} is revoked")


def _owner(accounts: Accounts, name: str) -> User:
    """Return a user whose tokens people may change. Raises InputError."""
    user = accounts.users.named(name)
    if user.name == SERVICE_USER:
        detail = "its tokens are settings, MUR_SERVICE_TOKEN and MUR_DASHBOARD_TOKEN: `mkrich prepare` stores new ones"
        raise InputError(f"{name} is the installation's own account: {detail}", field="user")
    return user


def _named(tokens: list[Token], name: str, owner: User) -> Token:
    found = next((each for each in tokens if each.name == name), None)
    if found is None:
        names = ", ".join(repr(each.name) for each in tokens) or "none"
        raise InputError(f"{owner.name} has no token named {name!r}; it has: {names}", field="name")
    return found
