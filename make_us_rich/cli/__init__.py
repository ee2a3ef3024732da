"""`mkrich`, the command line, with one module for each subject. May import every other package of make_us_rich."""

from __future__ import annotations

import typer

from make_us_rich.cli import backtest, candles, first_version, forecasts, installation, models, pairs, stack
from make_us_rich.cli.shared import command_error
from make_us_rich.core.errors import MakeUsRichError
from make_us_rich.database.connection import POSTGRES_UNAVAILABLE

app = typer.Typer(
    help="Cryptocurrency forecasts with honest uncertainty, trained and served automatically.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for module in (stack, installation, forecasts, backtest, candles, models, pairs, first_version):
    module.register(app)


def main() -> None:
    """Run a command. This project's own errors and an unreachable Postgres end it with one line on stderr."""
    try:
        app()
    except MakeUsRichError as error:
        raise SystemExit(command_error(str(error)).exit_code) from None
    except POSTGRES_UNAVAILABLE as error:
        reason = str(error).strip()
        raise SystemExit(command_error(f"{reason}. Is it up, and is MUR_DATABASE_URL its address?").exit_code) from None
