"""Client of supervisord, which starts, restarts, logs and stops the programs of the stack.

supervisord knows no readiness and no dependencies: `lifecycle.up` adds both. docs/explanation/dependencies.md compares
it with honcho and circus.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import SupervisorTransport

from make_us_rich.core.errors import StackError
from make_us_rich.embedded.identity import write_beside
from make_us_rich.embedded.stack_config import PROJECT_ROOT, StackConfig

_STACK_ID = "MUR_STACK_ID"  # set in every process of a stack, also those that leave supervisord's process groups
_START_TIMEOUT_S = 15.0
_STOP_TIMEOUT_S = 40.0
_END_TIMEOUT_S = 10.0
_STORES = "stores.json"  # their commands and stop signals, for a stack whose supervisord was killed
_LOGS, _PROGRAM_LOGS, _PROJECT = "MUR_STACK_LOGS", "MUR_STACK_PROGRAM_LOGS", "MUR_STACK_PROJECT"
_PAUSES = "make_us_rich.embedded.pauses:limit_pauses"
_ENDLESS = 1_000_000  # retries of a program that does not stay up: what it needs may be away for days
_STORE_PRIORITY = 1  # supervisord stops programs with a low priority last; the others have 999, its default


@dataclass(frozen=True)
class Program:
    """One long-running program.

    `stops_last` is for stores, which the others write to while they end. `withheld` names variables of the stack's
    environment that this program must not see. One that ends within `min_uptime_s` is restarted after a pause.
    """

    name: str
    command: Sequence[str]
    user: str | None = None
    stop_signal: str = "TERM"
    stops_last: bool = False
    withheld: Sequence[str] = ()
    min_uptime_s: int = 2


@dataclass(frozen=True)
class ProgramState:
    """A program as supervisord sees it: `state` is STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED or FATAL.

    started_at: when it was started last, in seconds since 1970, 0 for never; since_s: how long ago that was.
    """

    name: str
    state: str
    pid: int
    since_s: float
    started_at: int = 0

    @property
    def is_down(self) -> bool:
        return self.state in ("BACKOFF", "EXITED", "FATAL")


def wait_until(condition: Callable[[], object], timeout_s: float, message: str, poll_s: float = 0.1) -> None:
    """Poll until the condition is true. Raises StackError with the message after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise StackError(f"{message} after {timeout_s:.0f} s")
        time.sleep(poll_s)


def _variable(program: Program) -> str:
    return f"MUR_COMMAND_{program.name.upper().replace('-', '_')}"


def end(processes: Sequence[psutil.Process], kind: signal.Signals, timeout_s: float) -> None:
    """Ask processes to end by a signal, wait, and kill those that are still there after `timeout_s`."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(kind)
    _, alive = psutil.wait_procs(processes, timeout=timeout_s)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=_END_TIMEOUT_S)


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.Error):
        found: list[psutil.Process] = process.children(recursive=True)
        return found
    return []


def _is_supervisord(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return "supervisor.supervisord" in process.cmdline()
    return False


class Supervisor:
    """The supervisord of one stack."""

    def __init__(self, config: StackConfig) -> None:
        self._config = config

    @property
    def _socket(self) -> Path:
        return self._config.runtime / "supervisor.sock"

    def is_running(self) -> bool:
        """True while supervisord accepts commands: not any more while it stops its programs."""
        try:
            with self._rpc() as rpc:
                return bool(rpc.getState())
        except (OSError, xmlrpc.client.Error):
            return False

    def _has_ended(self) -> bool:
        """True when nobody answers: while supervisord waits for the last programs, it refuses commands by a fault."""
        try:
            with self._rpc() as rpc:
                rpc.getState()
        except xmlrpc.client.Fault:
            return False
        except (OSError, xmlrpc.client.Error):
            return True
        return False

    def launch(self, programs: Sequence[Program], environment: Mapping[str, str]) -> None:
        """Start supervisord itself; no program runs yet. Raises StackError when it does not start."""
        self._config.logs.mkdir(parents=True, exist_ok=True)
        path = self._config.state / "supervisord.conf"
        write_beside(path, self._configuration(programs))
        stores = [{"command": list(one.command), "stop_signal": one.stop_signal} for one in programs if one.stops_last]
        write_beside(self._config.state / _STORES, json.dumps(stores))
        # Values go through variables: in the file, `%`, ` ;` and ` #` have a meaning of their own.
        logs = str(self._config.logs)
        values = {_LOGS: logs, _PROGRAM_LOGS: logs.replace("%", "%%"), _PROJECT: str(PROJECT_ROOT)}  # expanded twice
        values |= {_variable(program): shlex.join(program.command) for program in programs}
        started = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(path)],
            env={**environment, **values, _STACK_ID: self._config.stack_id},
            capture_output=True,
            text=True,
            check=False,
        )
        if started.returncode != 0:
            raise StackError(f"supervisord did not start: {started.stderr or started.stdout}")
        wait_until(self.is_running, _START_TIMEOUT_S, "supervisord does not answer")

    def start(self, name: str) -> None:
        with self._rpc() as rpc, suppress(xmlrpc.client.Fault):  # already started
            rpc.startProcess(name, False)

    def wait_until_running(self, names: Sequence[str]) -> None:
        """Wait until these programs count as running: a quick one is ready before `startsecs` have passed.

        Raises StackError when one does not stay up.
        """

        def all_running() -> bool:
            return all(state.state == "RUNNING" for state in self.states() if state.name in names)

        wait_until(all_running, _START_TIMEOUT_S, f"not every program is running ({', '.join(names)})")

    def stop(self, name: str) -> None:
        with self._rpc() as rpc, suppress(xmlrpc.client.Fault):  # not running
            rpc.stopProcess(name, True)

    def states(self) -> list[ProgramState]:
        with self._rpc() as rpc:
            found = rpc.getAllProcessInfo()
        return [
            ProgramState(
                item["name"],
                item["statename"],
                item["pid"],
                item["now"] - item["start"] if item["start"] else 0.0,  # never started
                item["start"],
            )
            for item in found
        ]

    def shut_down(self) -> None:
        """Stop every program, the stores last, then supervisord, then what is left of the stack's processes.

        A process is killed only if it did not end after it was asked to.
        """
        before = self.processes()
        if not self._has_ended():
            with suppress(OSError, xmlrpc.client.Error, StackError):  # another process stops it at the same time
                self._stop_programs()
            with suppress(StackError):
                wait_until(self._has_ended, _STOP_TIMEOUT_S, "supervisord does not stop")
        else:  # without its socket it still stops its programs in their order
            end([process for process in before if _is_supervisord(process)], signal.SIGTERM, _STOP_TIMEOUT_S)
        left = {process for process in before | self.processes() if process.is_running()}
        stores = {process: kind for process in left if (kind := self._stop_signal_of_store(process))}
        children = {child for store in stores for child in _descendants(store)}  # a store ends its own ones
        end([process for process in left if process not in {*stores, *children}], signal.SIGTERM, _END_TIMEOUT_S)
        for store, kind in stores.items():
            end([store], kind, _STOP_TIMEOUT_S)
        end([child for child in children if child.is_running()], signal.SIGTERM, _END_TIMEOUT_S)

    def _stop_signal_of_store(self, process: psutil.Process) -> signal.Signals | None:
        """Return the signal by which a store stops; None for a process of another program."""
        with suppress(psutil.Error, OSError, ValueError):
            command = process.cmdline()
            for store in json.loads((self._config.state / _STORES).read_text(encoding="utf-8")):
                if store["command"] == command:
                    return signal.Signals[f"SIG{store['stop_signal']}"]
        return None

    def _stop_programs(self) -> None:
        with self._rpc() as rpc:
            first = [item["name"] for item in rpc.getAllConfigInfo() if item["process_prio"] != _STORE_PRIORITY]
            for name in first:
                with suppress(xmlrpc.client.Fault):  # not running
                    rpc.stopProcess(name, False)
        wait_until(
            lambda: not any(state.pid for state in self.states() if state.name in first),
            _STOP_TIMEOUT_S,
            "programs do not stop",
        )
        with self._rpc() as rpc:
            rpc.shutdown()

    def processes(self) -> set[psutil.Process]:
        """Return every process of this stack: those with its id in their environment, and their descendants.

        Neither is enough alone: daemons leave their parents, and a program that sets its title loses its environment.
        """
        found, stack_id = set(), self._config.stack_id
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.environ().get(_STACK_ID) == stack_id:
                    found |= {process, *process.children(recursive=True)}
        return found

    @contextmanager
    def _rpc(self) -> Iterator[Any]:
        """Open a new connection; threads must not share one."""
        transport = SupervisorTransport(None, None, serverurl=f"unix://{self._socket}")
        with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as server:
            yield server.supervisor

    def _configuration(self, programs: Sequence[Program]) -> str:
        head = [
            "[supervisord]",
            f"logfile=%(ENV_{_LOGS})s/supervisord.log",
            f"pidfile={self._config.runtime}/supervisord.pid",
            f"directory=%(ENV_{_PROJECT})s",
            *(["user=root"] if os.getuid() == 0 else []),
            "[unix_http_server]",
            f"file={self._socket}",
            "chmod=0700",
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
            "[rpcinterface:pauses]",
            f"supervisor.rpcinterface_factory = {_PAUSES}",
        ]
        return "\n".join([*head, *(self._program_section(program) for program in programs)]) + "\n"

    def _program_section(self, program: Program) -> str:
        withheld = ",".join(f'{name}=""' for name in program.withheld)
        lines = [
            f"[program:{program.name}]",
            f"command=%(ENV_{_variable(program)})s",
            "autostart=false",
            "autorestart=true",
            *([f"priority={_STORE_PRIORITY}"] if program.stops_last else []),
            f"startsecs={program.min_uptime_s}",
            f"startretries={_ENDLESS}",
            f"stopsignal={program.stop_signal}",
            # A store gets the signal alone, because it stops its children itself.
            f"stopasgroup={'false' if program.stops_last else 'true'}",
            "killasgroup=true",
            "stopwaitsecs=15",
            f"stdout_logfile=%(ENV_{_PROGRAM_LOGS})s/{program.name}.log",
            "stdout_logfile_maxbytes=20MB",
            "stdout_logfile_backups=1",
            "redirect_stderr=true",
            *([f"user={program.user}"] if program.user else []),
            *([f"environment={withheld}"] if withheld else []),
        ]
        return "\n".join(lines)
