"""What `pip install make-us-rich` gives: built as sdist, then as the wheel from it, then put into an empty environment.

The dependencies come from this environment, so that the test takes seconds. `.github/workflows/roles.yml` installs
each role from the index as well.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from functools import cache
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.processes import PROJECT_ROOT

pytestmark = pytest.mark.timeout(300)

OURS = ("make_us_rich", "dags", "ray_jobs", "serve_app", "dash_app", "sql")
FILES = {
    "*.sql": "sql",
    "*.css": "dash_app",
    "*.html": "dash_app",
    "*.py": "dags",
    ".airflowignore": "dags",
    "foundation_*": "make_us_rich/registry/foundations",
    "examples.json": "serve_app/api",
}
IMPORTS = {
    "": "make_us_rich.client",
    "cli": "make_us_rich.cli, make_us_rich.cli.models, make_us_rich.database.pairs, make_us_rich.operations.health",
    "mcp": "make_us_rich.agents",
    "prepare": "make_us_rich.operations.prepare, make_us_rich.market.object_store",
    "serve": "serve_app.app, make_us_rich.pipeline.deployment, make_us_rich.registry.shipped",
    "dash": "dash_app.app",
    "dags": ", ".join(f"dags.{file.stem}" for file in (PROJECT_ROOT / "dags").glob("[a-z]*.py"))
    + ", mlflow, arch, make_us_rich.operations.housekeeping, make_us_rich.record.outcomes",
    "train": "ray_jobs.train_pairs, ray_jobs.train_foundation",
}
FORBIDDEN = {
    "": {"numpy", "psycopg2-binary", "rich", "typer", "requests"},
    "cli": {"torch", "ray", "mlflow", "apache-airflow", "dash", "pandas"},
    "serve": {"torch", "mlflow", "apache-airflow", "dash"},
    "dash": {"torch", "ray", "mlflow", "apache-airflow", "onnxruntime"},
    "dags": {"torch", "ray", "onnxruntime", "mlflow", "dash"},
    "train": {"mlflow", "apache-airflow", "dash"},
}
VENDORED = {"ray": {"psutil", "colorama"}}  # copies of its own, under the usual names
# Only what the role's requirements name, down to the last, can be imported.
BLOCKED_IMPORTS = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
import {modules}
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the wheel and sees this environment's other packages."""
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns(".*", "*.egg-info", "build", "dist", "tests", "__pycache__", "site")
    shutil.copytree(PROJECT_ROOT, folder / "source", ignore=ignored)
    shutil.copy(PROJECT_ROOT / "dags" / ".airflowignore", folder / "source" / "dags")
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", folder / "source")
    (wheel,) = (folder / "dist").glob("*.whl")
    assert len(list((folder / "dist").glob("*.tar.gz"))) == 1

    venv.create(folder / "clean", with_pip=False, symlinks=True)
    _run(sys.executable, "-m", "pip", "--python", folder / "clean", "install", "--no-deps", "--quiet", wheel)
    (purelib,) = (folder / "clean" / "lib").glob("python*/site-packages")
    # as a plain path, so that this environment's own .pth files, which name the checkout, are not read
    (purelib / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "clean" / "bin" / "python"


def _run(*command: str | Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "MUR_PAIRS")}
    done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def test_everything_that_is_read_at_run_time_is_inside(python: Path) -> None:
    (installed,) = (python.parents[1] / "lib").glob("python*/site-packages")
    for pattern, folder in FILES.items():
        expected = {path.relative_to(PROJECT_ROOT) for path in (PROJECT_ROOT / folder).rglob(pattern)}
        assert expected, f"{folder} holds no {pattern}"
        assert expected == {path.relative_to(installed) for path in (installed / folder).rglob(pattern)}

    found = _run(python, "-c", "from make_us_rich.database.migrations import SQL_FOLDER as f; print(f)")
    assert Path(found.strip()) == installed / "sql"


def test_the_command_is_there_and_names_what_needs_a_checkout(python: Path) -> None:
    assert "doctor" in _run(python.parent / "mkrich", "--help")
    up = subprocess.run([python.parent / "mkrich", "up"], cwd="/", capture_output=True, text=True, check=False)
    assert up.returncode == 1


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("up", "stack"),
        ("mcp", "mcp"),
        ("status", "stack"),
        ("candles download --pairs btc_usdt --from 2024-01-01 --to 2024-02-01 --out /nowhere", "market"),
        ("backtest --candles /nowhere --from 2024-01-01 --to 2024-03-01", "train"),
    ],
)
def test_a_command_names_the_extra_that_it_lacks(python: Path, command: str, extra: str) -> None:
    code = BLOCKED_IMPORTS.format(blocked=_absent("cli"), modules="make_us_rich.cli")
    code += f"sys.argv = ['mkrich', *{command.split()!r}]\nmake_us_rich.cli.main()"
    done = subprocess.run([python, "-c", code], cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"pip install 'make-us-rich[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_client_alone_answers_and_the_command_names_its_extra(python: Path) -> None:
    client = BLOCKED_IMPORTS.format(blocked=_absent(""), modules="make_us_rich.client")
    unreachable = "with make_us_rich.client.Client('http://127.0.0.1:9', 'mur_x') as api:\n    api.forecast('btc_usdt')"
    done = subprocess.run([python, "-c", client + unreachable], cwd="/", capture_output=True, text=True, check=False)
    assert "ServiceUnavailable: the forecast service at http://127.0.0.1:9 cannot be reached" in done.stderr

    command = BLOCKED_IMPORTS.format(blocked=_absent(""), modules="make_us_rich.__main__")
    code = f"{command}\nmake_us_rich.__main__.main()"
    done = subprocess.run([python, "-c", code], cwd="/", capture_output=True, text=True, check=False)
    assert done.stderr.startswith("error: mkrich needs typer, which is not installed: pip install 'make-us-rich[cli]'")


@pytest.mark.parametrize("role", IMPORTS)
def test_a_role_runs_with_what_it_requires_and_nothing_else(python: Path, role: str) -> None:
    assert not _required(role) & FORBIDDEN.get(role, set())
    _run(python, "-W", "ignore", "-c", BLOCKED_IMPORTS.format(blocked=_absent(role), modules=IMPORTS[role]))


_modules = cache(packages_distributions)


@cache
def _absent(role: str) -> set[str]:
    """The modules that an installation of a role does not have."""
    required = _required(role)
    vendored = {module for name, modules in VENDORED.items() if name in required for module in modules}
    return {
        module
        for module, names in _modules().items()
        if module not in vendored and module not in OURS and not required & {canonicalize_name(name) for name in names}
    }


def _required(role: str) -> set[str]:
    """The canonical names of all distributions that an extra needs, with what they need in turn."""
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
    todo = [Requirement(text) for text in project["dependencies"]]
    todo += [Requirement(text) for text in project["optional-dependencies"].get(role, [])]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        requirement = todo.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        if key[0] == "make-us-rich":
            texts = [text for extra in requirement.extras for text in project["optional-dependencies"][extra]]
            todo += [Requirement(text) for text in texts]
            continue
        for inner in map(Requirement, distribution(requirement.name).requires or []):
            if inner.marker is None or any(
                inner.marker.evaluate({"extra": extra}) for extra in (requirement.extras or {""})
            ):
                todo.append(inner)
    return {name for name, _ in seen}
