"""`mkrich`: the whole project from a terminal. The commands are in make_us_rich/commands."""

from __future__ import annotations

import typer

from make_us_rich.cli import backtest, candles, first_version, forecasts, installation, models, pairs, stack
from make_us_rich.cli.shared import fail
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
    """The entry point: our own errors end with one clear line instead of a traceback."""
    try:
        app()
    except MakeUsRichError as error:
        raise SystemExit(fail(str(error)).exit_code) from None
    except POSTGRES_UNAVAILABLE as error:
        why = str(error).strip()
        raise SystemExit(fail(f"{why}. Is it up, and is MUR_DATABASE_URL its address?").exit_code) from None
