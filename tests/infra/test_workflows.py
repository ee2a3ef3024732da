from __future__ import annotations

import os
import re
import subprocess
from typing import Any

import yaml

from make_us_rich import __version__
from tests.support.processes import PROJECT_ROOT

FOLDER = PROJECT_ROOT / ".github" / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))


def test_workflows_run_targets_that_exist_with_few_rights() -> None:
    makefile = (PROJECT_ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    assert len(WORKFLOWS) >= 6
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text())
        assert workflow["permissions"] == {"contents": "read"}, path.name
        for job in workflow["jobs"].values():
            if "uses" in job:  # another of these workflows
                assert (PROJECT_ROOT / job["uses"]) in WORKFLOWS, path.name
                continue
            assert job["timeout-minutes"] <= 60, path.name
            named = job.get("strategy", {}).get("matrix", {}).get("target", [])
            runs = " ".join(step.get("run", "") for step in job["steps"])
            used = {*named, *re.findall(r"make ([a-z-]+)", runs)}
            assert used <= targets, path.name


def test_a_release_is_a_tag_that_matches_the_version_and_passes_the_tests() -> None:
    release = _release()
    assert release[True] == {"push": {"tags": ["v*"]}}  # YAML 1.1 reads `on` as true
    assert release["jobs"]["tests"] == {"needs": "check", "uses": "./.github/workflows/ci.yml"}
    assert {release["jobs"][job]["needs"] for job in ("wheel", "images")} == {"tests"}
    (check,) = (step["run"] for step in release["jobs"]["check"]["steps"] if "run" in step)
    assert _exit_code(check, f"v{__version__}") == 0
    for other in (__version__, f"v{__version__}.1", "v9.9.9"):
        assert _exit_code(check, other) != 0, other


def test_the_stacks_run_as_parallel_jobs_on_main_each_night_and_before_a_release() -> None:
    workflow: dict[Any, Any] = yaml.safe_load((FOLDER / "ci.yml").read_text())
    assert {"schedule", "workflow_call"} <= set(workflow[True])
    assert workflow[True]["push"] == {"branches": ["main"]}
    folders = {path.parent.name for path in (PROJECT_ROOT / "tests" / "stacks").glob("*/test_*.py")}
    assert set(workflow["jobs"]["stacks"]["strategy"]["matrix"]["stack"]) == folders
    makefile = (PROJECT_ROOT / "Makefile").read_text()
    (named,) = re.findall(r"^STACKS \?= (.*)$", makefile, flags=re.MULTILINE)
    assert set(named.split()) == folders


def test_a_release_builds_every_image_that_compose_and_kubernetes_run() -> None:
    configured = (PROJECT_ROOT / "docker-compose.yml").read_text() + "".join(
        path.read_text() for path in (PROJECT_ROOT / "infra" / "kubernetes").rglob("*.yaml")
    )
    used = set(re.findall(r"make-us-rich/(\w+)\b", configured))
    roles = _release()["jobs"]["images"]["strategy"]["matrix"]["role"]
    assert used == set(roles)
    targets = re.findall(r"^FROM \S+ AS ([\w-]+)", (PROJECT_ROOT / "infra/docker/Dockerfile").read_text(), flags=re.M)
    assert set(roles) <= set(targets)


def test_the_changelog_describes_the_version() -> None:
    changelog = (PROJECT_ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## \[{re.escape(__version__)}\] - \d{{4}}-\d\d-\d\d$", changelog, flags=re.M)


def _release() -> dict[Any, Any]:
    workflow: dict[Any, Any] = yaml.safe_load((FOLDER / "release.yml").read_text())
    return workflow


def _exit_code(command: str, tag: str) -> int:
    """Run a step as GitHub does: in the checkout, with nothing installed."""
    environment = {"PATH": os.environ["PATH"], "GITHUB_REF_NAME": tag}
    return subprocess.run(["bash", "-ec", command], cwd=PROJECT_ROOT, env=environment, check=False).returncode
