"""An operator that runs a job on a Ray cluster, without holding a worker slot while the job runs.

The submission id follows from the task instance and its try. Before it submits a job, the operator looks for a running
one under any id of the task instance, so a restarted worker, scheduler or triggerer never starts a second job.

The cluster is the Airflow connection `ray_default`: `host` is the URL of Ray's dashboard, `password` Ray's
authentication token.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import shlex
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from airflow.sdk import BaseHook, BaseOperator, Context, XComArg
from airflow.sdk.exceptions import AirflowException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from make_us_rich.documents import RunItem
from make_us_rich.pipeline.ray_jobs import RayJob, RayJobsClient, RayUnreachable

_CONNECTION = "ray_default"
_POLL_S = 2.0
_START_TIMEOUT_S = 15 * 60.0  # for a free place on the cluster
_RUN_TIMEOUT_S = 40 * 60.0  # added to the start timeout
_SILENCE_TIMEOUT_S = 40 * 60.0  # of a job without a limit: a pair takes seconds, and each of its steps has a line
_UNREACHABLE_S = 2 * 60.0  # after which a cluster that does not answer is given up
_LOG_TAIL_LINES = 20


class RayJobFailed(AirflowException):
    """The job ended as FAILED or STOPPED, was lost, or did not start or end in time."""


class RayJobTrigger(BaseTrigger):
    """Watches one job until it ends, and copies its log lines into the task's log.

    `run_deadline` None: it may take as long as its log goes on.
    """

    def __init__(
        self,
        submission_id: str,
        conn_id: str,
        poll_s: float,
        start_deadline: float,
        run_deadline: float | None,
        unreachable_s: float,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.submission_id = submission_id
        self.conn_id = conn_id
        self.poll_s = poll_s
        self.start_deadline = start_deadline
        self.run_deadline = run_deadline
        self.unreachable_s = unreachable_s

    def serialize(self) -> tuple[str, dict[str, Any]]:
        names = ("submission_id", "conn_id", "poll_s", "start_deadline", "run_deadline", "unreachable_s")
        return "dags.support.operator.RayJobTrigger", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        async with await _aclient(self.conn_id) as ray:
            status, reason = await self._watch(ray)
        event = {"submission_id": self.submission_id, "status": status, "reason": reason}
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Stop the job, because a person cleared the task or set its state."""
        async with await _aclient(self.conn_id) as ray:
            await ray.stop(self.submission_id)

    async def _watch(self, ray: RayJobsClient) -> tuple[str, str]:
        """Poll until the job is over; return its outcome and the reason."""
        shown = 0
        last_answer = last_line = time.time()
        while True:
            try:
                job = await ray.find(self.submission_id)
                before, shown = shown, self._log_new_lines(await ray.logs(self.submission_id), shown)
                last_answer = time.time()
                last_line = last_answer if shown > before else last_line
            except RayUnreachable as error:
                silent_s = time.time() - last_answer
                if silent_s > self.unreachable_s:
                    return "LOST", f"{error} (for {silent_s:.0f} s)"
                self.log.warning("%s: retrying", error)
            else:
                outcome = self._outcome(job, silent_s=last_answer - last_line)
                if outcome is not None:
                    return outcome
            await asyncio.sleep(self.poll_s)

    def _outcome(self, job: RayJob | None, *, silent_s: float) -> tuple[str, str] | None:
        """Return outcome and reason of a job that is over or out of time; None while it may go on."""
        now = time.time()
        if job is None:
            return "LOST", "Ray does not know the job any more: the Ray head was restarted"
        if not job.is_active:
            return job.status, job.message
        if job.status == "PENDING" and now > self.start_deadline:
            return "NOT STARTED", "the cluster had no free resources in time: see its CPUs and GPUs"
        if self.run_deadline is None:
            if silent_s > _SILENCE_TIMEOUT_S:
                return "TOO SLOW", f"its log has had no new line for {silent_s / 60:.0f} min"
        elif now > self.run_deadline:
            return "TOO SLOW", "it ran longer than its run timeout"
        return None

    def _log_new_lines(self, logs: str, shown: int) -> int:
        """Log the lines after the first `shown`; return the number of lines."""
        lines = logs.splitlines()
        for line in lines[shown:]:
            self.log.info("%s", line)
        return len(lines)


class RayJobOperator(BaseOperator):
    """Submits `entrypoint`, a shell command line that runs on the Ray head, and defers until it ends.

    Returns the submission id, which the job can read as RAY_JOB_SUBMISSION_ID. Raises RayJobFailed with the job's
    last log lines when it does not succeed, and RayUnreachable, which a retry may heal, when it cannot be submitted.
    `is_limited` False: the job is not stopped while its log goes on, however long it takes.
    """

    template_fields: Sequence[str] = ("entrypoint",)
    ui_color = "#c7e9ff"

    def __init__(
        self,
        *,
        entrypoint: str | XComArg,
        metadata: Mapping[str, str] | None = None,
        is_limited: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.is_limited = is_limited
        self.entrypoint = entrypoint
        self.metadata = dict(metadata or {})
        self._submission_id = ""

    def execute(self, context: Context) -> str:
        self._submission_id, job = asyncio.run(self._submit_or_reattach(_possible_ids(context)))
        if job is not None and not job.is_active:
            return self.resume(context, self._event(job))
        now = time.time()
        self.defer(
            trigger=RayJobTrigger(
                self._submission_id,
                _CONNECTION,
                _POLL_S,
                start_deadline=now + _START_TIMEOUT_S,
                run_deadline=now + _START_TIMEOUT_S + _RUN_TIMEOUT_S if self.is_limited else None,
                unreachable_s=_UNREACHABLE_S,
            ),
            method_name="resume",
        )

    def resume(self, context: Context, event: Mapping[str, str]) -> str:
        submission_id, status = event["submission_id"], event["status"]
        if status == "SUCCEEDED":
            return submission_id
        tail = asyncio.run(self._stop_and_read_log(submission_id))
        raise RayJobFailed(f"Ray job {submission_id} {status}: {event['reason']}\n{tail}")

    def on_kill(self) -> None:
        if self._submission_id:
            asyncio.run(self._stop(self._submission_id))

    async def _submit_or_reattach(self, ids: Sequence[str]) -> tuple[str, RayJob | None]:
        async with _client(_CONNECTION) as ray:
            for submission_id in ids:
                job = await ray.find(submission_id)
                if job is not None and (job.is_active or submission_id == ids[0]):
                    self.log.info("reattached to Ray job %s (%s)", submission_id, job.status)
                    return submission_id, job
            command = f"export RAY_JOB_SUBMISSION_ID={ids[0]}; {self.entrypoint}"
            await ray.submit(ids[0], command, self.metadata)
            self.log.info("submitted Ray job %s: %s", ids[0], self.entrypoint)
            return ids[0], None

    async def _stop_and_read_log(self, submission_id: str) -> str:
        """Stop a job that may still run, and return its last log lines, or why they cannot be read."""
        async with _client(_CONNECTION) as ray:
            try:
                await ray.stop(submission_id)
                lines = (await ray.logs(submission_id)).splitlines()
            except RayUnreachable as error:
                return str(error)
        return "\n".join(lines[-_LOG_TAIL_LINES:])

    async def _stop(self, submission_id: str) -> None:
        async with _client(_CONNECTION) as ray:
            await ray.stop(submission_id)

    @staticmethod
    def _event(job: RayJob) -> dict[str, str]:
        return {"submission_id": job.submission_id, "status": job.status, "reason": job.message}


def job_command(module: str, items: Sequence[RunItem], stop_at_ms: int | None = None) -> str:
    """Return the command line of a job that trains these items, which share interval and as_of.

    `stop_at_ms`: time after which the job begins no further pair.
    """
    command = ["python", "-m", module, "--pairs", ",".join(str(item.pair) for item in items)]
    command += ["--interval", items[0].interval, "--as-of-ms", str(items[0].as_of_ms)]
    return shlex.join(command if stop_at_ms is None else [*command, "--stop-at-ms", str(stop_at_ms)])


def _possible_ids(context: Context) -> list[str]:
    """Return the submission id of this try, then those of the earlier tries."""
    instance = context["ti"]
    mapped = f"-{instance.map_index}" if (instance.map_index or 0) >= 0 else ""
    stem = f"{instance.dag_id}-{instance.task_id}-{instance.run_id}{mapped}"
    # Run ids contain characters that Ray refuses; the digest keeps runs apart that differ only in those.
    digest = hashlib.sha256(stem.encode()).hexdigest()[:8]
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", stem)
    return [f"{readable}-{digest}-try{number}" for number in range(instance.try_number, 0, -1)]


def _client(conn_id: str) -> RayJobsClient:
    connection = BaseHook.get_connection(conn_id)
    return RayJobsClient(connection.host or "", connection.password or "")


async def _aclient(conn_id: str) -> RayJobsClient:
    connection = await BaseHook.aget_connection(conn_id)
    return RayJobsClient(connection.host or "", connection.password or "")
