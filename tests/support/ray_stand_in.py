"""Plays a Ray cluster for callers of its REST API, and the gateway's /readyz, without a process of Ray.

tests/serving/ and tests/dags/test_train_pairs.py call the real ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from make_us_rich.documents import NamedVersion, PairState, Readiness
from make_us_rich.pipeline.deployment import GATEWAY

_SERVE, _JOBS = "/api/serve/applications/", "/api/jobs/"


@dataclass
class RayStandIn:
    """Serves what it is told at once, and ends each job at once.

    configs: of Ray Serve, in the order in which they came. refused, stuck: the series whose replica refuses its model,
    or has not loaded it; failed: the applications whose deployment failed. run_job: gets the submission id of a job.
    session: the name of the head's session; empty while there is no head.
    """

    configs: list[dict[str, Any]] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    stuck: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    run_job: Callable[[str], None] = lambda _: None
    session: str = "session_1"
    _jobs: list[str] = field(default_factory=list)

    @property
    def served(self) -> dict[str, NamedVersion]:
        """By which model each dedicated series is served by the newest configuration."""
        found = {}
        for application in self.configs[-1]["applications"]:
            if application["name"] != GATEWAY:
                model = application["deployments"][0]["user_config"]
                found[application["name"]] = NamedVersion(name=model["name"], version=model["version"])
        return found

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route(_SERVE, self._configure, methods=["PUT"]),
                Route(_SERVE, self._applications),
                Route("/readyz", self._readyz),
                Route("/api/version", self._version),
                Route(_JOBS, self._submit, methods=["POST"]),
                Route(_JOBS, self._list_jobs),
                Route(_JOBS + "{job}", self._job),
                Route(_JOBS + "{job}/logs", lambda _: JSONResponse({"logs": ""})),
            ]
        )

    async def _configure(self, request: Request) -> Response:
        self.configs.append(await request.json())
        return Response()

    def _applications(self, _: Request) -> Response:
        found = {
            each["name"]: {
                "status": "DEPLOY_FAILED" if each["name"] in self.failed else "RUNNING",
                "message": "",
                "deployed_app_config": each,
            }
            for each in self.configs[-1]["applications"]
        }
        return JSONResponse({"applications": found})

    def _version(self, _: Request) -> Response:
        return JSONResponse({"session_name": self.session}) if self.session else Response("no head", status_code=503)

    def _readyz(self, _: Request) -> Response:
        states = {}
        for name, wanted in self.served.items():
            refused = "its quantiles do not increase" if name in self.refused else None
            serves = None if refused or name in self.stuck else wanted
            states[name] = PairState(
                ready=True, asleep=False, serves=serves, wanted=wanted, refused=refused, as_of_ms=1, reason=None
            )
        return JSONResponse(Readiness(ready=True, pairs=states).model_dump())

    async def _submit(self, request: Request) -> Response:
        submission_id = (await request.json())["submission_id"]
        self.run_job(submission_id)
        self._jobs.append(submission_id)
        return JSONResponse({"submission_id": submission_id})

    def _list_jobs(self, _: Request) -> Response:
        return JSONResponse([{"submission_id": job} for job in self._jobs])

    def _job(self, request: Request) -> Response:
        known = request.path_params["job"] in self._jobs
        return JSONResponse({"status": "SUCCEEDED", "message": ""}, status_code=200 if known else 404)
