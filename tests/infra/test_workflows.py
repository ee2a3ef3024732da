from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import yaml
from packaging.specifiers import SpecifierSet

from make_us_rich import __version__
from tests.support.compose import all_compose_variables, compose_services
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


def test_every_supported_python_is_chosen_by_make_and_tried_by_ci() -> None:
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())
    supported = [
        f"3.{minor}" for minor in range(30) if f"3.{minor}" in SpecifierSet(project["project"]["requires-python"])
    ]
    (chosen,) = re.findall(r"^PYTHONS := (.*)$", (PROJECT_ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert chosen.split() == supported[::-1]
    jobs = yaml.safe_load((FOLDER / "ci.yml").read_text())["jobs"]
    assert ["3.11", *jobs["python"]["strategy"]["matrix"]["python"]] == supported
    assert f"Python {', '.join(supported[:-1])} or {supported[-1]}" in (PROJECT_ROOT / "README.md").read_text()


def test_every_upper_bound_has_a_reason() -> None:
    lines = (PROJECT_ROOT / "pyproject.toml").read_text().splitlines()
    bounded = [line for line in lines if re.search(r'"[\w\[\],.-]+[\d>=.,]*<[\d.]+"|requires-python', line)]
    assert len(bounded) >= 10
    assert [line for line in bounded if " # " not in line] == []


def test_make_installs_with_the_newest_python_that_runs_and_says_so_when_none_does(tmp_path: Path) -> None:
    for version, works in (("3.13", False), ("3.12", True), ("3.11", True)):
        program = tmp_path / f"python{version}"
        program.write_text(f"#!/bin/sh\nexit {0 if works else 127}\n")
        program.chmod(0o755)
    assert _planned_install(tmp_path).count("python3.12 -m venv .venv") == 1
    for program in tmp_path.iterdir():
        program.write_text("#!/bin/sh\nexit 127\n")
    assert "test -n ''" in _planned_install(tmp_path)


def _planned_install(pythons: Path) -> str:
    """Return the recipe of `make install` without running it."""
    environment = {"PATH": f"{pythons}:/usr/bin:/bin"}
    command = ["make", "--dry-run", "--always-make", "install"]
    return subprocess.run(command, cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, check=True).stdout


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
    configured += (PROJECT_ROOT / "infra" / "docker" / "compose.gpu.yml").read_text()
    used = set(re.findall(r"make-us-rich/([\w-]+)\b", configured))
    roles = _release()["jobs"]["images"]["strategy"]["matrix"]["role"]
    assert used == set(roles)
    targets = re.findall(r"^FROM \S+ AS ([\w-]+)", (PROJECT_ROOT / "infra/docker/Dockerfile").read_text(), flags=re.M)
    assert {role.removesuffix("-cuda") for role in roles} <= set(targets)


def test_every_action_is_pinned_by_its_full_hash() -> None:
    for path in WORKFLOWS:
        for name in re.findall(r"uses: (?!\./)(.*)$", path.read_text(), flags=re.MULTILINE):
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", name), f"{path.name}: {name}"


def test_no_index_is_added_to_the_first_one() -> None:
    """Of two indexes, pip takes any package from the one that has the newer version."""
    files = [*WORKFLOWS, *(PROJECT_ROOT / "infra" / "docker").glob("*")]
    files += [PROJECT_ROOT / "Makefile", PROJECT_ROOT / "README.md", *(PROJECT_ROOT / "docs").rglob("*.md")]
    for path in files:
        if path.is_file():
            assert not re.search("extra.index", path.read_text(), flags=re.IGNORECASE), path
            for line in re.findall(r".*--index-url.*", path.read_text()):
                assert "--no-deps" in line, path


def test_every_image_that_compose_and_kubernetes_run_is_scanned(tmp_path: Path) -> None:
    steps = [
        step["run"]
        for job in yaml.safe_load((FOLDER / "images.yml").read_text())["jobs"].values()
        for step in job["steps"]
        if "scan.sh" in step.get("run", "")
    ]
    given = {name: value for name, value in all_compose_variables().items() if not name.endswith("_IMAGE")}
    images = {of["image"] for of in compose_services(given).values()}
    lists = f'printf "%s\\n" {" ".join(images)}'
    (tmp_path / "docker").write_text(
        f'#!/bin/sh\nif [ "$1" = compose ]; then {lists}; else echo "$@" >> {tmp_path}/runs; fi\n'
    )
    (tmp_path / "docker").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for step in steps:
        subprocess.run(["bash", "-ec", step], cwd=PROJECT_ROOT, env=environment, check=True)

    runs = (tmp_path / "runs").read_text().splitlines()
    scanned = {run.split()[-1] for run in runs}
    manifests = "".join(path.read_text() for path in (PROJECT_ROOT / "infra" / "kubernetes").rglob("*.yaml"))
    assert len(images) >= 10
    assert images | set(re.findall(r"^\s*image: (\S+)", manifests, flags=re.M)) == scanned
    assert all(re.search(r"trivy:[\d.]+@sha256:[0-9a-f]{64} image .*--exit-code 1", run) for run in runs)


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
