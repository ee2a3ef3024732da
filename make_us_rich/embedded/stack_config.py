"""The configuration of a stack: its market, its folders and its ports."""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from make_us_rich.core.errors import SettingsError, StackError
from make_us_rich.core.interval import Interval
from make_us_rich.core.setting_types import Folder, Whole, explain
from make_us_rich.embedded.identity import identity_of, new_identity, save_identity, write_beside
from make_us_rich.embedded.ports import PORT_OFFSETS, refuse_outgoing_ports

Market = Literal["simulated", "recorded", "binance"]

PROJECT_ROOT = Path(__file__).resolve().parents[2]

_SPECIAL = re.compile(r"[%${},`\\]")
_LINKED: dict[str, Path | None] = {"state": None, "checkout": PROJECT_ROOT}  # None: the state folder


@dataclass(frozen=True)
class StackConfig:
    """Where a stack keeps its state and listens. Each market has its own state folder, so that prices never mix."""

    market: Market
    state: Path
    port_base: int = 20_000
    data: Path | None = None  # folder of recorded klines, for the recorded market
    # Settings of the command that started it, which later commands know from here.
    intervals: str = ""
    training_minutes: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", self.state.resolve())

    def port(self, name: str) -> int:
        return self.port_base + PORT_OFFSETS[name]

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port(name)}"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def runtime(self) -> Path:
        """The folder of sockets, as the last start chose it. Its path is short: unix sockets allow about 100 bytes."""
        return identity_of(self.state).runtime

    @property
    def stack_id(self) -> str:
        """What every process of the stack has in its environment."""
        return identity_of(self.state).stack_id

    def make_runtime_folder(self) -> None:
        """Make the folder of sockets for a new start, and let the state folder say where it is.

        Raises StackError when it exists and others may use it, because anybody may write to /tmp.
        """
        identity = new_identity(self.state)
        try:
            identity.runtime.mkdir(mode=0o700)
        except FileExistsError:
            found = identity.runtime.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
                raise StackError(
                    f"{identity.runtime} belongs to another user or is open to others: "
                    "remove it, or set TMPDIR to a folder of your own"
                ) from None
        save_identity(self.state, identity)
        for name, folder in ((name, folder or self.state) for name, folder in _LINKED.items()):
            (identity.runtime / name).unlink(missing_ok=True)
            if _SPECIAL.search(str(folder)):
                (identity.runtime / name).symlink_to(folder)

    def plain_path(self, path: Path) -> Path:
        """Return a path below the state folder or the checkout, through a link where its name has special characters.

        Airflow expands `$` and `%` in its paths, and SeaweedFS splits its folders at commas; neither has a way to
        escape them.
        """
        if not _SPECIAL.search(str(path)):
            return path
        name, above = next(
            (name, folder or self.state)
            for name, folder in _LINKED.items()
            if path.is_relative_to(folder or self.state)
        )
        return self.runtime / name / path.relative_to(above)

    @property
    def haproxy(self) -> Path:
        """The folder of Ray Serve's HAProxy files; its name is short, because Ray adds 57 characters for the node."""
        return self.runtime / "h"

    def save(self) -> None:
        """Save this configuration as the one that `down`, `status` and `logs` use."""
        fields = {key: str(value) for key, value in asdict(self).items() if value is not None}
        write_beside(self.state.parent / "current.json", json.dumps(fields, indent=1))


class _StackSettings(BaseSettings):
    """The settings of the embedded stack alone, which its components do not read."""

    model_config = SettingsConfigDict(env_prefix="MUR_", frozen=True, extra="ignore", str_strip_whitespace=True)

    stack_home: Folder = str(PROJECT_ROOT / ".stack")
    port_base: Annotated[Whole, Field(ge=0, le=65535 - max(PORT_OFFSETS.values()))] = 20_000


def _stack_settings() -> _StackSettings:
    try:
        return _StackSettings()
    except ValidationError as error:
        raise SettingsError(explain(_StackSettings, error)) from None


def _port_base() -> int:
    """Return MUR_PORT_BASE. Raises SettingsError when outgoing connections of the kernel may take its ports."""
    settings = _stack_settings()
    if "port_base" in settings.model_fields_set:  # the default is right unless somebody widened the kernel's range
        refuse_outgoing_ports(settings.port_base)
    return settings.port_base


def stack_home() -> Path:
    """Return the folder of every stack's state: MUR_STACK_HOME, or .stack in the checkout. Raises SettingsError."""
    return Path(_stack_settings().stack_home).resolve()


def new_stack_config(market: Market, data: Path | None = None) -> StackConfig:
    """Return the configuration of a stack by MUR_STACK_HOME and MUR_PORT_BASE.

    `data` is the folder of recorded klines. Raises InputError when it cannot be replayed, StackError when this is no
    checkout, SettingsError for a port base that leaves no room for the ports, or shares them with outgoing connections.
    """
    if not (PROJECT_ROOT / "dags").is_dir():
        raise StackError(
            "the embedded stack runs from a checkout of the repository: clone it and use `make demo` there"
        )
    if data is not None:
        _check_recording(data)
    return StackConfig(
        market,
        stack_home() / market,
        _port_base(),
        data.resolve() if data else None,
        intervals=os.environ.get("MUR_INTERVALS", ""),
        training_minutes=os.environ.get("MUR_TRAINING_MINUTES", ""),
    )


def _check_recording(data: Path) -> None:
    """Raise InputError when the replay exchange would refuse the folder, or no model could be made from it."""
    from make_us_rich.market.recordings import read_resampled, require_recorded_files  # pyarrow takes a while

    for path in require_recorded_files(data, bitcoin=True).values():
        read_resampled(path, Interval.H1)


def saved_stack_config() -> StackConfig | None:
    """Return the configuration of the last `up`, or None before the first."""
    path = stack_home() / "current.json"
    if not path.exists():
        return None
    try:
        saved = json.loads(path.read_text())
    except ValueError:
        raise StackError(f"{path} is damaged: delete it, then `mkrich up` writes it again") from None
    data = Path(saved["data"]) if "data" in saved else None
    return StackConfig(
        saved["market"],
        path.parent / saved["market"],  # rather than the path that was saved: the folder may have been moved
        int(saved["port_base"]),
        data,
        intervals=saved.get("intervals", ""),
        training_minutes=saved.get("training_minutes", ""),
    )
