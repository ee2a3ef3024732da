"""Our end of supervisord, which starts, restarts, logs and stops the programs.

Chosen over honcho (no restart, one terminal) and circus (no release since early 2025): supervisor is kept,
restarts what dies, rotates logs and signals whole process groups. It knows no readiness: `lifecycle.up` adds that.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil
from supervisor.xmlrpc import SupervisorTransport

from make_us_rich.core.errors import StackError
from make_us_rich.embedded.stack_config import PROJECT_ROOT, StackConfig

STACK_ID = "MUR_STACK_ID"  # marks every process of a stack, also those that leave its process groups
_START_S = 15.0
_STOP_S = 40.0


@dataclass(frozen=True)
class Program:
    """One long-running program. `stops_last` for the stores that the others write to while they end.

    `withheld`: variables of the stack's environment that this program has no need to know.
    """

    name: str
    command: Sequence[str]
    user: str | None = None
    stop_signal: str = "TERM"
    stops_last: bool = False
    withheld: Sequence[str] = ()


@dataclass(frozen=True)
class ProgramState:
    name: str
    state: str  # supervisord's words: STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED, FATAL
    pid: int
    since_s: float

    @property
    def is_down(self) -> bool:
        return self.state in ("BACKOFF", "EXITED", "FATAL")


class Supervisor:
    def __init__(self, config: StackConfig) -> None:
        self._config = config
        self._socket = config.runtime / "supervisor.sock"

    def is_running(self) -> bool:
        try:
            return bool(self._rpc().getState())
        except (OSError, xmlrpc.client.Error):
            return False

    def launch(self, programs: Sequence[Program], environment: Mapping[str, str]) -> None:
        """Start supervisord itself, with no program running yet."""
        self._config.logs.mkdir(parents=True, exist_ok=True)
        path = self._config.state / "supervisord.conf"
        path.write_text(self._configuration(programs))
        marked = dict(environment) | {STACK_ID: str(self._config.state)}
        started = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(path)],
            env=marked,
            capture_output=True,
            text=True,
            check=False,
        )
        if started.returncode != 0:
            raise StackError(f"supervisord did not start: {started.stderr or started.stdout}")
        self._wait(self.is_running, _START_S, "supervisord does not answer")

    def start(self, name: str) -> None:
        with suppress(xmlrpc.client.Fault):  # already started
            self._rpc().startProcess(name, False)

    def stop(self, name: str) -> None:
        with suppress(xmlrpc.client.Fault):  # it is not running
            self._rpc().stopProcess(name, True)

    def states(self) -> list[ProgramState]:
        return [
            ProgramState(
                item["name"],
                item["statename"],
                item["pid"],
                item["now"] - item["start"] if item["start"] else 0.0,  # never started
            )
            for item in self._rpc().getAllProcessInfo()
        ]

    def shut_down(self, programs_that_stop_last: Sequence[str]) -> None:
        """Stop everything, the stores last, and whatever escaped its process group."""
        everything = self.processes()
        if self.is_running():
            rpc = self._rpc()
            early = [state.name for state in self.states() if state.name not in programs_that_stop_last]
            for name in early:
                with suppress(xmlrpc.client.Fault):  # it is not running
                    rpc.stopProcess(name, False)
            self._wait(lambda: self._stopped(early), _STOP_S, "programs do not stop")
            rpc.shutdown()
            self._wait(lambda: not self.is_running(), _STOP_S, "supervisord does not stop")
        left = [process for process in everything | self.processes() if process.is_running()]
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=10)

    def processes(self) -> set[psutil.Process]:
        """Every process of this stack: supervisord's descendants, and what only carries the stack's mark.

        Neither is enough alone: daemons leave the family, and a program that sets its title loses its environment.
        """
        found = set()
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.environ().get(STACK_ID) == str(self._config.state):
                    found |= {process, *process.children(recursive=True)}
        return found

    def _stopped(self, names: Sequence[str]) -> bool:
        return not any(state.pid for state in self.states() if state.name in names)

    def _rpc(self) -> Any:
        """A new connection each time: one may not be shared between threads."""
        transport = SupervisorTransport(None, None, serverurl=f"unix://{self._socket}")
        return xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor

    @staticmethod
    def _wait(done: Any, timeout_s: float, complaint: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not done():
            if time.monotonic() > deadline:
                raise StackError(f"{complaint} after {timeout_s:.0f} s")
            time.sleep(0.1)

    def _configuration(self, programs: Sequence[Program]) -> str:
        head = [
            "[supervisord]",
            f"logfile={self._config.logs}/supervisord.log",
            f"pidfile={self._config.runtime}/supervisord.pid",
            f"directory={PROJECT_ROOT}",
            *(["user=root"] if os.getuid() == 0 else []),
            "[unix_http_server]",
            f"file={self._socket}",
            "chmod=0700",
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
        ]
        return "\n".join([*head, *(self._section(program) for program in programs)]) + "\n"

    def _section(self, program: Program) -> str:
        withheld = ",".join(f'{name}=""' for name in program.withheld)
        lines = [
            f"[program:{program.name}]",
            f"command={shlex.join(program.command).replace('%', '%%')}",
            "autostart=false",
            "autorestart=true",
            "startsecs=2",
            f"stopsignal={program.stop_signal}",
            # a store is told once; its children follow it
            f"stopasgroup={'false' if program.stops_last else 'true'}",
            "killasgroup=true",
            "stopwaitsecs=15",
            f"stdout_logfile={self._config.logs}/{program.name}.log",
            "stdout_logfile_maxbytes=20MB",
            "stdout_logfile_backups=1",
            "redirect_stderr=true",
            *([f"user={program.user}"] if program.user else []),
            *([f"environment={withheld}"] if withheld else []),
        ]
        return "\n".join(lines)
