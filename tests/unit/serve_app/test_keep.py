"""When the applications are deployed again. The session's name is Ray's; tests/stacks/faults kills the real head."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from make_us_rich.core.errors import ServingError
from make_us_rich.core.settings import Settings
from serve_app import keep
from serve_app.keep import Keeper
from tests.support.app_threads import running_app
from tests.support.ray_stand_in import RayStandIn


class Deployments:
    """The deployments so far: each takes the next outcome."""

    def __init__(self) -> None:
        self.sessions: list[str] = []
        self.errors: list[Exception] = []
        self.ray = RayStandIn()

    def __call__(self, _: Settings) -> str:
        self.sessions.append(self.ray.session)
        if self.errors:
            raise self.errors.pop()
        return "everything"


@pytest.fixture
def deployments() -> Deployments:
    return Deployments()


@pytest.fixture
def keeper(deployments: Deployments) -> Iterator[Keeper]:
    with running_app(deployments.ray.app()) as url:
        yield Keeper(Settings(ray_url=url), deployments)


def test_each_head_of_ray_gets_the_applications_once(keeper: Keeper, deployments: Deployments) -> None:
    assert [keeper.step() for _ in range(3)] == ["deployed to session_1: everything", "", ""]
    deployments.ray.session = ""
    assert keeper.step() == ""
    deployments.ray.session = "session_2"
    assert [keeper.step() for _ in range(3)] == ["deployed to session_2: everything", "", ""]

    assert deployments.sessions == ["session_1", "session_2"]


def test_a_deployment_that_fails_is_repeated(
    keeper: Keeper, deployments: Deployments, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployments.errors = [ServingError("Ray Serve is late")]
    assert keeper.step() == "not deployed: Ray Serve is late"
    assert keeper.step() == "", "it waits before it tries again"
    deployments.ray.session = "session_2"
    assert keeper.step() == "deployed to session_2: everything", "a new head does not wait"

    monkeypatch.setattr(keep, "_RETRY_AFTER_S", 0.0)
    deployments.ray.session, deployments.errors = "session_3", [ServingError("no"), ServingError("no")]
    assert [keeper.step() for _ in range(4)] == ["not deployed: no"] * 2 + ["deployed to session_3: everything", ""]


def test_what_came_between_is_deployed_after_a_while(
    keeper: Keeper, deployments: Deployments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keep, "_EVERY_S", 0.0)
    assert [keeper.step() for _ in range(2)] == ["deployed to session_1: everything"] * 2
    assert deployments.sessions == ["session_1"] * 2


def test_no_head_is_deployed_to_where_another_server_answers(deployments: Deployments) -> None:
    assert Keeper(Settings(ray_url="http://127.0.0.1:9"), deployments).step() == ""
    assert deployments.sessions == []
