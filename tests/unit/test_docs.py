from __future__ import annotations

import ast
import inspect
import json
import re
import tomllib
from math import ceil
from pathlib import Path

from packaging.requirements import Requirement

from infra.docs import generated_pages, write_http_reference
from make_us_rich.operations import health
from tests.support.processes import PROJECT_ROOT

DOCS = PROJECT_ROOT / "docs"
SETTINGS_PAGE = DOCS / "reference" / "settings.md"


def test_every_setting_is_documented() -> None:
    old = [page.name for page, content in generated_pages().items() if page.read_text() != content]
    assert old == [], "older than the code: run `make docs`"


def test_the_formula_of_the_sizing_page_is_within_8_percent_of_the_measured_runs() -> None:
    page = (DOCS / "reference" / "sizing.md").read_text()
    numbers = re.search(
        r"a run takes (\d+) s, (\d+) s for each job of up to (\d+) pairs, ([\d.]+) s a pair up to (\d+) pairs and else "
        r"([\d.]+) s a pair, and\s+([\d.]+) s of a core",
        page,
    )
    assert numbers
    start_s, job_s, of_a_job, own_s, most_own, shared_s, core_s = map(float, numbers.groups())

    def formula(pairs: int, workers: int = 2) -> float:
        tasks_s = own_s if pairs <= most_own else shared_s
        return start_s + ceil(pairs / of_a_job) * job_s + pairs * (tasks_s + core_s / workers)

    measured = re.findall(r"^\| (\d+) \| (\d+) s \|", page, flags=re.M)
    assert len(measured) == 4
    for pairs, seconds in measured:
        assert abs(formula(int(pairs)) / float(seconds) - 1) <= 0.081
    assert f"{formula(100):.0f} s | {formula(417):.0f} s |" in page  # a 24th of 10,000 pairs


def test_every_variable_of_compose_is_documented() -> None:
    compose = (PROJECT_ROOT / "docker-compose.yml").read_text()
    variables = set(re.findall(r"\$\{([A-Z][A-Z0-9_]+)", compose))
    undocumented = sorted(name for name in variables if f"`{name}`" not in SETTINGS_PAGE.read_text())
    assert variables
    assert undocumented == []


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *(text for extra in project["optional-dependencies"].values() for text in extra)]
    named = {Requirement(text).name for text in texts} - {"make-us-rich"}
    page = (DOCS / "explanation" / "dependencies.md").read_text().lower()
    assert [name for name in sorted(named) if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", page)] == []


def test_an_exchange_is_added_where_the_page_says() -> None:
    page = (DOCS / "how-to" / "extend.md").read_text()
    packages = [PROJECT_ROOT / name for name in ("make_us_rich", "dags", "ray_jobs", "serve_app", "dash_app")]
    files = [path for package in packages for path in package.rglob("*.py") if "ExchangeClient(" in path.read_text()]
    paths = [path.relative_to(PROJECT_ROOT).as_posix() for path in files if path.name != "exchange.py"]
    assert len(paths) >= 4
    assert [path for path in paths if path not in page] == []


def test_the_table_of_errors_has_every_kind_of_problem() -> None:
    code = "".join(path.read_text() for path in (PROJECT_ROOT / "serve_app").rglob("*.py"))
    code += (PROJECT_ROOT / "make_us_rich" / "operations" / "haproxy.py").read_text()
    kinds = set(re.findall(r'(?:Problem\(\s*(?:\d{3}|error\.status_code),|unavailable\()\s*"([a-z-]+)"', code))
    kinds |= set(re.findall(r'_problem\(\s*\d{3}, "([a-z-]+)"', code))
    kinds |= set(re.findall(r"problem:([a-z-]+)", (PROJECT_ROOT / "infra" / "docker" / "nginx.conf").read_text()))
    page = (DOCS / "reference" / "api.md").read_text()
    told = set(re.findall(r"`([a-z-]+)`", "".join(re.findall(r"^\| [45]\d\d \| ([^|]*) \|", page, flags=re.M))))
    assert len(kinds) >= 15
    assert told == kinds


def test_where_alarms_of_prometheus_go_is_said_as_it_is() -> None:
    configured = "alerting:" in (PROJECT_ROOT / "infra" / "monitoring" / "prometheus.yml").read_text()
    for name in ("alarms.md", "extend.md"):
        assert ("`alerting` block" in (DOCS / "how-to" / name).read_text()) != configured, name


RUN_BY = {
    "README.md": "tests/serving/test_requests.py",
    "docs/tutorial.md": "tests/serving/test_requests.py",
    "docs/explanation/track-record.md": "tests/browser/test_public_pages.py",
    "docs/how-to/extend.md": "tests/contract/test_extend.py",
    "docs/how-to/notebook.md": "tests/contract/test_notebook.py",
}
"""The test that runs the Python code of a page."""


def test_all_python_code_of_the_pages_is_run_by_a_test() -> None:
    pages = [PROJECT_ROOT / "README.md", PROJECT_ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")]
    with_code = {path.relative_to(PROJECT_ROOT).as_posix() for path in pages if "```python" in path.read_text()}
    assert with_code == set(RUN_BY)
    for page, test in RUN_BY.items():
        assert Path(page).name in (PROJECT_ROOT / test).read_text(), f"{test} does not read {page}"


_PACKAGES = ("make_us_rich", "dags", "ray_jobs", "serve_app", "dash_app", "infra", "benchmarks", "examples")


def _python_files() -> list[Path]:
    files = [path for name in _PACKAGES for path in (PROJECT_ROOT / name).rglob("*.py")]
    return [path for path in files if "node_modules" not in path.parts]


def test_no_file_of_the_packages_is_long() -> None:
    assert [str(path) for path in _python_files() if len(path.read_text().splitlines()) > 400] == []


def test_no_function_of_the_packages_is_long() -> None:
    functions = [
        (path, node)
        for path in _python_files()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert len(functions) > 1000
    assert [f"{path}: {each.name}" for path, each in functions if _length(each) > 60] == []


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def test_every_problem_that_watch_service_reports_is_explained() -> None:
    source = inspect.getsource(health)
    problems = [text for text in re.findall(r'return f?"(it[^"{]*)', source) if len(text.split()) > 1]
    assert len(problems) >= 5
    page = (DOCS / "how-to" / "alarms.md").read_text()
    assert [problem for problem in problems if problem.strip(": ") not in page] == []


def test_pages_need_no_other_host_to_render() -> None:
    for page in [PROJECT_ROOT / "README.md", *DOCS.rglob("*.md")]:
        text = page.read_text()
        assert "```mermaid" not in text, f"{page}: the site would load mermaid from another host; draw an SVG"
        images = re.findall(
            r"!\[[^\]]*\]\(([^)]+)\)", text.partition("\n    make demo")[2] if "README" in page.name else text
        )
        assert not [image for image in images if "://" in image], page


def test_the_http_reference_needs_no_server_and_no_other_host(tmp_path: Path) -> None:
    write_http_reference(tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert '<meta charset="utf-8">' in page  # Swagger UI's script is not ASCII
    used = re.findall(r"""(?:href|src)="([^"]+)"|url: '([^']+)'""", page)
    assert len(used) >= 4
    assert all((tmp_path / (name or document)).is_file() for name, document in used)
    assert "/v1/forecasts/{pair}" in json.loads((tmp_path / "openapi.json").read_text())["paths"]


def test_every_label_of_the_dashboard_that_a_page_names_exists() -> None:
    sources = [path for path in (PROJECT_ROOT / "dash_app").rglob("*") if path.suffix in (".py", ".html", ".js")]
    dashboard = "\n".join(path.read_text() for path in sources).lower()
    for page in (DOCS / "tutorial.md", DOCS / "reference" / "dashboard.md"):
        labels = re.findall(r"(?<!\*)\*([A-Za-z][^*\n]*)\*(?!\*)", page.read_text())
        assert labels
        assert [label for label in labels if label.lower() not in dashboard] == [], page
