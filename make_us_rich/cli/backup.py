"""`mkrich backup` and `mkrich restore`: everything that the embedded stack knows, saved into a folder and back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from make_us_rich.cli.shared import command_error
from make_us_rich.cli.stack import Data, Live
from make_us_rich.core.terminal import console

if TYPE_CHECKING:
    from make_us_rich.embedded.lifecycle import Stack

_New = Annotated[Path, typer.Argument(help="a new folder")]
_Saved = Annotated[Path, typer.Argument(help="a folder that `mkrich backup` has written")]


def backup(folder: _New) -> None:
    """Save the databases and buckets of the embedded stack, which may go on, into a new folder."""
    from make_us_rich.embedded import lifecycle
    from make_us_rich.embedded.stack_config import saved_stack_config

    config = saved_stack_config()
    if config is None or not lifecycle.status(config):
        raise command_error("no stack runs here: `mkrich up --stores` starts what a backup reads")
    _run("save", folder, lifecycle.open_stack(config))


def restore(folder: _Saved, live: Live = False, data: Data = None) -> None:
    """Fill the stores of a new embedded stack from a backup; next, `mkrich up` with the same options starts it.

    It overwrites nothing: a stack that holds data is refused.
    """
    from make_us_rich.embedded import lifecycle
    from make_us_rich.embedded.demo import start_stack
    from make_us_rich.embedded.stack_config import saved_stack_config

    running = saved_stack_config()
    if running is not None and lifecycle.status(running):
        raise command_error("the stack is up: `mkrich down` first")
    if not (folder / "manifest.json").exists():
        raise command_error(f"{folder} has no manifest.json: it is not a complete backup", is_mistake=True)
    stack = start_stack(live=live, data=data, service="stores")
    try:
        _run("restore", folder, stack)
    finally:
        lifecycle.down(stack.config)
    console.print("restored; `mkrich up` starts the stack")


def _run(action: Literal["save", "restore"], folder: Path, stack: Stack) -> None:
    """Run `infra.backup` with the stack's variables and the clients of its Postgres."""
    from make_us_rich.embedded.stack_config import PROJECT_ROOT
    from make_us_rich.embedded.stores import postgres_programs

    path = f"{postgres_programs()}{os.pathsep}{stack.environment['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "infra.backup", action, str(folder.resolve())],
        env={**stack.environment, "PATH": path},
        cwd=PROJECT_ROOT,
        check=False,
    )
    if done.returncode != 0:
        raise typer.Exit(1)
