"""`mkrich`, the command line, with one module for each subject. May import every other package of make_us_rich."""

from __future__ import annotations

from collections.abc import Callable
from traceback import walk_tb

import typer

from make_us_rich.cli import backup, history, installation, models, pairs, stack, tokens
from make_us_rich.cli.shared import command_error, print_notice
from make_us_rich.client import ServiceRefused
from make_us_rich.core.errors import (
    AccountError,
    InputError,
    MakeUsRichError,
    PairNotTraded,
    SettingsError,
    UnknownVersion,
)
from make_us_rich.core.proxies import except_loopback
from make_us_rich.database.pool import POSTGRES_UNAVAILABLE, STATEMENT_ENDED

_COMMANDS: tuple[Callable[..., None], ...] = (
    stack.up,
    stack.down,
    stack.status,
    stack.logs,
    stack.env,
    stack.demo,
    backup.backup,
    backup.restore,
    installation.doctor,
    installation.deploy,
    installation.migrate,
    installation.prepare,
    installation.create_admin,
    installation.init_env,
    models.train,
    models.forecast,
    history.backtest,
    models.models,
    models.promote,
    models.rollback,
    models.mcp,
)
_FIRST_VERSION: tuple[Callable[..., None], ...] = (stack.init, stack.run, stack.start, stack.stop)

app = typer.Typer(
    help="Cryptocurrency forecasts with honest uncertainty, trained and served automatically.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in _COMMANDS:
    app.command()(command)
for command in _FIRST_VERSION:
    app.command(rich_help_panel="Commands of the first version (2022)")(command)
app.add_typer(history.candles_app, name="candles")
app.add_typer(pairs.pairs_app, name="pairs")
app.add_typer(tokens.tokens_app, name="tokens")

# What each package needs beyond the base installation.
_EXTRAS = {
    "make_us_rich.agents": "mcp",
    "make_us_rich.market": "market",
    "make_us_rich.forecasting": "train",
    "make_us_rich.embedded": "stack",
}


def main() -> None:
    """Run a command. A user's mistake ends it with one line on stderr and the exit code 2, as typer's own checks do.

    So do this project's other errors, an unreachable Postgres and a missing extra, with the exit code 1.
    """
    for name in except_loopback():
        print_notice(f"{name} is not used: only a proxy by HTTP is, such as http://proxy.example:8080")
    try:
        app()
    except MakeUsRichError as error:
        raise SystemExit(command_error(str(error), is_mistake=_is_mistake(error)).exit_code) from None
    except STATEMENT_ENDED as error:
        raise SystemExit(command_error(f"Postgres is busy: {_first_line(error)}. Try again").exit_code) from None
    except POSTGRES_UNAVAILABLE as error:
        text = f"{_first_line(error)}. Is it up, and is MUR_DATABASE_URL its address?"
        raise SystemExit(command_error(text).exit_code) from None
    except OSError as error:
        if error.filename is None:
            raise
        text = f"{error.filename}: {error.strerror}: name another file or folder"
        raise SystemExit(command_error(text, is_mistake=True).exit_code) from None
    except ModuleNotFoundError as error:
        raise SystemExit(command_error(_missing_extra(error)).exit_code) from None


def _is_mistake(error: MakeUsRichError) -> bool:
    """Tell whether the user can repair it by another input or setting; else a component failed."""
    if isinstance(error, ServiceRefused):
        return error.status < 500
    return isinstance(error, (InputError, SettingsError, AccountError, UnknownVersion, PairNotTraded))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")


def _missing_extra(error: ModuleNotFoundError) -> str:
    """Name the extra that the importing package needs. Raises the error again if a module of ours is missing."""
    importers = [frame.f_globals["__name__"] for frame, _ in walk_tb(error.__traceback__)]
    extras = [extra for name in importers for package, extra in _EXTRAS.items() if f"{name}.".startswith(f"{package}.")]
    if not extras or f"{error.name}".startswith("make_us_rich"):
        raise error
    return f"this command needs {error.name}, which is not installed: pip install 'make-us-rich[{extras[0]}]'"
