"""Watches the installation from outside of Airflow, whose own DAG watch_service cannot tell that Airflow is away.

    python -m make_us_rich.operations.watchdog --port 9109

Once a minute it checks the stores, MLflow, Ray, Airflow and the HTTP API, and asks Airflow when each DAG ended a run.
It posts a problem that lasts for two rounds once, again after six hours, and once when it is over. After a round
without a problem it sends a GET to MUR_HEARTBEAT_URL, so that a service elsewhere notices when this program or its
machine is gone. Prometheus reads the state of the last round at /metrics.
"""

from __future__ import annotations

import argparse
import logging
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from make_us_rich.core.errors import MakeUsRichError
from make_us_rich.core.interval import Interval
from make_us_rich.core.settings import Settings, get_settings
from make_us_rich.operations import alerts
from make_us_rich.operations.health import check_api, check_components
from make_us_rich.pipeline.airflow import Airflow, DagState, dag_of

_log = logging.getLogger(__name__)

ROUND_S = 60.0
CONFIRMED_AFTER_ROUNDS = 2
REMIND_AFTER_S = 6 * 3600
# What was never well since the watchdog began is not reported so long, because it may be starting.
STARTING_S = 10 * 60
_COMPONENTS = ("postgres", "s3", "mlflow", "ray", "airflow", "disk")
# These two are reported by watch_service, as long as Airflow runs it.
_REPORTED_BY_AIRFLOW = ("ray", "api")
# What cannot work without another component is not reported while that one fails: one cause is one message.
_CAUSES = {"mlflow": {"postgres", "s3"}, "airflow": {"postgres"}, "api": {"ray"}}
_HEARTBEAT_TIMEOUT_S = 10.0
_HOUR_S = 3600
_LATE_AFTER_S = {
    "watch_service": 15 * 60,
    "housekeeping": 26 * _HOUR_S,
    "publish_log": 26 * _HOUR_S,
    # a run may begin an hour after the one before and take until its deadline
    **{dag_of("train_pairs", interval): interval.ms // 1000 + _HOUR_S for interval in Interval},
}


@dataclass(frozen=True)
class Round:
    """What one look at the installation found: for each component why it fails, None when it works; and the DAGs.

    `idle_since_s` has for each DAG that is not paused when it ended a run last, or since when it could.
    """

    at_s: float
    components: Mapping[str, str | None]
    paused: frozenset[str] = frozenset()
    idle_since_s: Mapping[str, float] = field(default_factory=dict)

    @property
    def problems(self) -> dict[str, str]:
        """What is to be reported, by the name of the component or DAG."""
        found = {name: text for name, text in self.components.items() if text is not None} | self._late()
        if "watch_service" in self.idle_since_s and not {"airflow", "watch_service"} & set(found):
            return {name: text for name, text in found.items() if name not in _REPORTED_BY_AIRFLOW}
        return found

    @property
    def is_healthy(self) -> bool:
        return not self._late() and not any(self.components.values())

    def _late(self) -> dict[str, str]:
        ages_s = {dag: self.at_s - since_s for dag, since_s in self.idle_since_s.items()}
        return {
            dag: f"no run of it ended for {age_s / _HOUR_S:.1f} hours: see Airflow"
            for dag, age_s in ages_s.items()
            if age_s > _LATE_AFTER_S.get(dag, float("inf"))
        }

    def metrics(self) -> str:
        """Return the round in Prometheus' text format."""
        lines = [f"mur_watchdog_round_seconds {self.at_s:.0f}"]
        lines += [f'mur_component_up{{component="{name}"}} {int(not text)}' for name, text in self.components.items()]
        lines += [
            f'mur_dag_paused{{dag="{dag}"}} {int(dag in self.paused)}' for dag in self.paused | {*self.idle_since_s}
        ]
        for dag, since_s in self.idle_since_s.items():
            if late_after_s := _LATE_AFTER_S.get(dag):
                lines.append(f'mur_dag_idle_since_seconds{{dag="{dag}"}} {since_s:.0f}')
                lines.append(f'mur_dag_late_after_seconds{{dag="{dag}"}} {late_after_s}')
        return "\n".join(lines) + "\n"


class Looker:
    """Checks everything, and remembers since when each DAG is not paused."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._running_since_s: dict[str, float] = {}

    def look(self) -> Round:
        """Check everything once. Never raises for what is away."""
        components = {
            result.name: f"{result.detail}. {result.way_out}" if result.state == "failed" else None
            for result in check_components(self._settings, _COMPONENTS)
        }
        components["api"] = None
        try:
            check_api(self._settings)
        except MakeUsRichError as error:
            components["api"] = str(error)
        dags: list[DagState] = []
        try:
            with Airflow.from_settings(self._settings) as airflow:
                dags = airflow.dag_states()
        except MakeUsRichError as error:
            components["airflow"] = components["airflow"] or str(error)
        return self.round(components, dags, time.time())

    def round(self, components: Mapping[str, str | None], dags: Iterable[DagState], now_s: float) -> Round:
        """Put together what was found."""
        states = {dag.dag_id: dag for dag in dags}
        running = {dag_id: self._running_since_s.get(dag_id, now_s) for dag_id, dag in states.items() if not dag.paused}
        if states:  # Airflow answered
            self._running_since_s = running
        idle = {dag_id: max(since_s, states[dag_id].ended_s or 0.0) for dag_id, since_s in running.items()}
        return Round(now_s, components, frozenset(states) - set(running), idle)


@dataclass
class Reporter:
    """Decides which problems are news. `began_s` is when the watch began."""

    began_s: float
    _rounds: dict[str, int] = field(default_factory=dict)  # in a row with the problem
    _reported_s: dict[str, float] = field(default_factory=dict)
    _was_well: set[str] = field(default_factory=set)

    def news(self, found: Round) -> alerts.Alert | None:
        """Return one message about everything that is new in a round, or None."""
        failing = found.problems
        problems = {name: text for name, text in failing.items() if not _CAUSES.get(name, set()) & set(failing)}
        self._was_well |= {name for name, text in found.components.items() if text is None}
        self._rounds = {name: self._rounds.get(name, 0) + 1 for name in problems}
        over = sorted(set(self._reported_s) - set(failing))
        due = [name for name in sorted(problems) if self._is_due(name, found)]
        for name in over:
            del self._reported_s[name]
        if not due and not over:
            return None
        self._reported_s |= {name: found.at_s for name in problems if name in due}
        lines = [f"**{name}**: {alerts.quoted(problems[name])}" for name in due]
        if over:
            lines.append(f"works again: {', '.join(over)}")
        title = f"watchdog: {', '.join(due)} failed" if due else f"watchdog: {', '.join(over)} works again"
        return alerts.Alert(title, "\n".join(lines), color=alerts.RED if due else alerts.GREEN)

    def _is_due(self, name: str, found: Round) -> bool:
        may_be_starting = name in found.components and name not in self._was_well
        if may_be_starting and found.at_s - self.began_s < STARTING_S:
            return False
        reported_s = self._reported_s.get(name)
        if reported_s is not None:
            return found.at_s - reported_s >= REMIND_AFTER_S
        return self._rounds[name] >= CONFIRMED_AFTER_ROUNDS


def send_heartbeat(settings: Settings) -> None:
    """Send a GET to MUR_HEARTBEAT_URL, if there is one. Never raises; the log never has the address, a secret."""
    url = settings.heartbeat_url.get_secret_value()
    if not url:
        return
    try:
        httpx.get(url, timeout=_HEARTBEAT_TIMEOUT_S).raise_for_status()
    except httpx.HTTPError as error:
        _log.warning("the heartbeat did not arrive: %s", type(error).__name__)


class Watchdog:
    """Runs the rounds; `metrics` are those of the last one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._looker = Looker(settings)
        self._reporter = Reporter(began_s=time.time())
        self.metrics = ""

    def round(self) -> None:
        """Look once, post what is new, and send the heartbeat if nothing is wrong."""
        found = self._looker.look()
        self.metrics = found.metrics()
        if alert := self._reporter.news(found):
            alerts.post_soon(alert, self._settings)
        if found.is_healthy:
            send_heartbeat(self._settings)

    def run(self) -> None:
        """Run rounds without end."""
        while True:
            began = time.monotonic()
            try:
                self.round()
            except Exception:  # whatever a server answered, the watch goes on
                _log.exception("a round failed")
            time.sleep(max(0.0, ROUND_S - (time.monotonic() - began)))


class _MetricsHandler(BaseHTTPRequestHandler):
    def __init__(self, watchdog: Watchdog, *arguments: object) -> None:
        self._watchdog = watchdog
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        body = self._watchdog.metrics.encode()
        self.send_response(200 if self.path == "/metrics" else 404)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Prometheus asks four times a minute, which is not worth a line."""


def serve_metrics(watchdog: Watchdog, host: str, port: int) -> ThreadingHTTPServer:
    """Serve /metrics in a thread."""
    server = ThreadingHTTPServer((host, port), partial(_MetricsHandler, watchdog))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def main() -> None:
    """Run the watchdog."""
    parser = argparse.ArgumentParser(description="watches the installation from outside of Airflow")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, help="of /metrics; by default there is none")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # its lines have the address of the heartbeat
    watchdog = Watchdog(get_settings())
    if options.port:
        serve_metrics(watchdog, options.host, options.port)
    watchdog.run()


if __name__ == "__main__":
    main()
