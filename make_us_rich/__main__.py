"""The command `mkrich`, which names the extra that it needs where only the client is installed."""

from __future__ import annotations


def main() -> None:
    try:
        from make_us_rich.cli import main as run_command
    except ModuleNotFoundError as error:
        if f"{error.name}".startswith("make_us_rich"):
            raise
        text = f"error: mkrich needs {error.name}, which is not installed: pip install 'make-us-rich[cli]'"
        raise SystemExit(text) from None
    run_command()


if __name__ == "__main__":
    main()
