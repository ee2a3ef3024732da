"""Training on a GPU, from the Dockerfile over Compose and the manifests to the workflows. No GPU runs here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from make_us_rich import __version__
from tests.support.compose import all_compose_variables, compose_services
from tests.support.processes import PROJECT_ROOT

INFRA = PROJECT_ROOT / "infra"
IMAGE = "make-us-rich/ray-cuda"


def test_the_image_has_the_build_of_pytorch_that_its_argument_names() -> None:
    base, *stages = re.split(r"^FROM ", (INFRA / "docker" / "Dockerfile").read_text(), flags=re.M)
    assert "ARG TORCH=cpu" in base
    (installed,) = [stage for stage in stages if "install-role train" in stage]
    assert installed.index("ARG TORCH") < installed.index("RUN install-role"), "a stage does not know it otherwise"


@pytest.mark.parametrize(
    ("torch", "wheel", "index", "has_cuda", "expected"),
    [
        ("cpu", True, True, False, ["--no-deps --no-index --find-links /wheels torch==", "--find-links /wheels"]),
        ("cpu", False, True, False, ["--no-deps --no-index", "--no-deps --retries 1 --index-url", "--find-links"]),
        ("cpu", False, False, False, ["--no-deps --no-index", "--no-deps --retries 1", "--find-links /wheels"]),
        ("cuda", True, True, True, ["--constraint constraints.txt torch==", "--find-links /wheels"]),
        ("cuda", True, True, False, None),
        ("rocm", True, True, True, None),
    ],
)
def test_a_role_that_trains_gets_pytorch_first(
    tmp_path: Path, torch: str, wheel: bool, index: bool, has_cuda: bool, expected: list[str] | None
) -> None:
    """A CPU build that was asked for as CUDA fails the build of the image, not a training job."""
    done, runs = _install(tmp_path, "train,serve,prepare", torch, wheel=wheel, index=index, has_cuda=has_cuda)

    assert (done.returncode == 0) == (expected is not None), done.stderr
    if expected is None:
        assert f"TORCH={torch}" in done.stderr
        assert "--requirement" not in runs[-1] if runs else True
    else:
        assert [run[: len(wanted)] for run, wanted in zip(runs, expected, strict=True)] == expected


def test_a_role_without_training_installs_no_pytorch(tmp_path: Path) -> None:
    done, runs = _install(tmp_path, "serve", "cpu", wheel=True, index=True, has_cuda=False)

    assert done.returncode == 0
    assert [run for run in runs if "torch==" in run] == []


def _install(
    folder: Path, role: str, torch: str, *, wheel: bool, index: bool, has_cuda: bool
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run install-role with a pip that only notes how it was called; returns its calls too."""
    log = folder / "pip.log"
    _program(
        folder / "pip",
        f'echo "${{@:2}}" >> {log}\n'
        f'case "$*" in *--no-index*) exit {0 if wheel else 1} ;; *--index-url*) exit {0 if index else 1} ;; esac',
    )
    _program(
        folder / "python",
        f'case "$*" in *torch.version*) exit {0 if has_cuda else 1} ;; esac\nexec {sys.executable} "$@"',
    )
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "TORCH": torch}
    command = ["sh", str(INFRA / "docker" / "install-role.sh"), role]
    done = subprocess.run(
        command, cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    return done, log.read_text().splitlines() if log.exists() else []


def _program(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)


def test_compose_gives_the_worker_a_gpu_and_the_image_that_can_use_it() -> None:
    env = all_compose_variables()
    plain = compose_services(env)
    services = compose_services(env, INFRA / "docker" / "compose.gpu.yml")

    worker = services.pop("ray-worker")
    assert worker["image"] == IMAGE
    assert worker["build"] == plain["ray-worker"]["build"] | {"args": {"TORCH": "cuda"}}
    assert worker["build"]["target"] == "ray"
    (device,) = worker["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert worker["command"] == plain["ray-worker"]["command"], "Ray counts the GPUs of the container by itself"
    assert services == {name: of for name, of in plain.items() if name != "ray-worker"}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl, which holds kustomize, is not on PATH")
@pytest.mark.parametrize("overlay", ["large", "small with the component"])
def test_who_requests_a_gpu_has_the_image_that_can_use_it(overlay: str, tmp_path: Path) -> None:
    shutil.copytree(INFRA / "kubernetes", tmp_path / "kubernetes")
    folder = tmp_path / "kubernetes" / "overlays" / overlay.split()[0]
    if overlay != "large":
        file = folder / "kustomization.yaml"
        file.write_text(f"{file.read_text()}\ncomponents: [../../components/gpu]\n")
    rendered = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True).stdout
    (training,) = [item for item in yaml.safe_load_all(rendered) if item["kind"] == "RayCluster"]
    groups = [training["spec"]["headGroupSpec"], *training["spec"]["workerGroupSpecs"]]
    containers = [container for group in groups for container in group["template"]["spec"]["containers"]]
    assert len(containers) == 3
    for container in containers:
        wants = "nvidia.com/gpu" in container["resources"]["limits"]
        assert container["image"] == f"{IMAGE if wants else 'make-us-rich/ray'}:{__version__}"
        assert wants == ("nvidia.com/gpu" in container["resources"]["requests"])
    assert ["nvidia.com/gpu" in each["resources"]["limits"] for each in containers].count(True) == 1


def test_the_workflows_build_that_image_with_cuda_and_the_others_without(tmp_path: Path) -> None:
    _program(tmp_path / "docker", f'echo "$@" >> {tmp_path}/runs')
    built = {}
    release = _jobs("release")["images"]
    (step,) = [step["run"] for step in release["steps"] if "docker build" in step.get("run", "")]
    for role in release["strategy"]["matrix"]["role"]:
        given = {"ROLE": role, "GITHUB_REPOSITORY": "Me/Rich", "GITHUB_REF_NAME": "v1.2.3", "GH_TOKEN": "x"}
        built[role] = _docker_build(tmp_path, step, given)
        assert f"--tag ghcr.io/me/rich/{role}:1.2.3 " in built[role]
    assert {role for role, line in built.items() if "TORCH=cuda" in line} == {"ray-cuda"}
    assert "--target ray --build-arg TORCH=cuda" in built["ray-cuda"]

    steps = [step["run"] for step in _jobs("images")["cuda"]["steps"] if "run" in step]
    assert f"--target ray --build-arg TORCH=cuda --tag {IMAGE} " in _docker_build(tmp_path, steps[0], {})
    assert "is_nccl_available()" in steps[1]
    assert IMAGE in steps[2]


def _jobs(workflow: str) -> dict[str, Any]:
    jobs: dict[str, Any] = yaml.safe_load((PROJECT_ROOT / ".github" / "workflows" / f"{workflow}.yml").read_text())[
        "jobs"
    ]
    return jobs


def _docker_build(folder: Path, step: str, given: dict[str, str]) -> str:
    """Run a step as GitHub does, with a docker that only notes how it was called; returns its `build`."""
    (folder / "runs").write_text("")
    environment = given | {"PATH": f"{folder}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-ec", step], cwd=PROJECT_ROOT, env=environment, check=True, capture_output=True)
    (line,) = [line for line in (folder / "runs").read_text().splitlines() if line.startswith("build")]
    return line


def test_the_pages_say_that_no_gpu_has_run_it() -> None:
    assert "No GPU has run this yet" in (PROJECT_ROOT / "docs" / "how-to" / "deploy.md").read_text()
