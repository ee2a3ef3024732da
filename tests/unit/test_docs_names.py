"""Every file, function, command, option, setting and endpoint that the documentation names is there."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterable, Iterator
from enum import EnumMeta
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import typer.main
import yaml

from infra.docs import openapi
from make_us_rich.cli import app
from make_us_rich.core.settings import Settings
from tests.support.processes import PROJECT_ROOT

_GENERATED = {"cli.md", "index.html"}
PAGES = [
    PROJECT_ROOT / "README.md",
    PROJECT_ROOT / "CONTRIBUTING.md",
    PROJECT_ROOT / "SECURITY.md",
    *sorted(page for page in (PROJECT_ROOT / "docs").rglob("*.md") if page.name not in _GENERATED),
]
CODE_FOLDERS = ("make_us_rich", "dags", "ray_jobs", "serve_app", "dash_app", "infra", "benchmarks", "examples", "tests")
OTHER_CODE = ("sql", ".ci", ".github")
_SOURCES = {".py", ".sql", ".yml", ".yaml", ".sh", ".toml", ".txt", ".json", ".js", ".css", ""}
_FILE = re.compile(r"[\w./-]*\w\.(?:py|sh|ya?ml|md|toml|txt|sql)\b")
_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+(?:\(.*\))?")
_ENDPOINT = re.compile(r"\b(GET|POST|PUT|DELETE) (/[\w/{}-]*)")
_PLACEHOLDER = re.compile(r"[A-Z]{2,}|…|\.\.\.|[/{].*")  # NAME, DIR, PAIR: the reader fills them in

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT_ROOT)))


@pages
def test_every_file_exists(page: Path) -> None:
    missing = [
        name
        for code in [*_inline(page), *_blocks(page)]
        for name in _FILE.findall(code)
        if not _is_file(name) and name not in _corpus()
    ]
    assert missing == []


@pages
def test_every_folder_and_link_exists(page: Path) -> None:
    folders = [code for code in _inline(page) if re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", code) and "/" in code]
    ours = {part for file in _files() for part in Path(file).parts[:-1]}
    named = [name.rstrip("/") for name in folders if name.partition("/")[0] in ours]
    within = re.compile(rf"(?<![\w/.-])(?:{'|'.join(CODE_FOLDERS)}|sql|docs)/[\w./-]*\w")
    named += [name for code in [*_inline(page), *_blocks(page)] for name in within.findall(code)]
    missing = [name for name in named if not _is_file(name)]
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    missing += [link for link in links if not (page.parent / link).exists() and Path(link).name not in _GENERATED]
    assert missing == []


@pages
def test_every_name_of_the_code_is_in_the_code(page: Path) -> None:
    missing = [code for code in _inline(page) if not all(_is_known(name) for name in _names(code))]
    missing += [name for name in re.findall(r"^::: (\S+)", page.read_text(), re.M) if not _has(name)]
    assert missing == []


@pytest.mark.parametrize("folder", [folder for folder in CODE_FOLDERS if folder != "tests"])
def test_every_name_in_a_docstring_is_in_the_code(folder: str) -> None:
    missing = [
        f"{path.relative_to(PROJECT_ROOT)}: {code}"
        for path in (PROJECT_ROOT / folder).rglob("*.py")
        for text in _docstrings(path)
        for code in re.findall(r"`([^`\n]+)`", text)
        if not all(_is_known(name) for name in _names(code))
    ]
    assert missing == []


@pages
def test_every_setting_exists(page: Path) -> None:
    missing = [
        name
        for name in re.findall(r"\bMUR_[A-Z0-9_]+\b", page.read_text())
        if name.removeprefix("MUR_").lower() not in Settings.model_fields and not _is_word(name)
    ]
    assert [name for name in missing if not _is_prefix(name)] == []


@pages
def test_every_command_can_be_given(page: Path) -> None:
    faults = [f"{' '.join(words)}: {fault}" for words in _commands(page) for fault in _faults(words) if fault]
    assert faults == []


@pages
def test_every_endpoint_answers(page: Path) -> None:
    served = _endpoints()
    named = [
        (method, re.sub(r"{\w+}|(?<=/)[a-z0-9]+_[a-z0-9]+(?=/|$)(?<!update_models)(?<!update_date)", "{}", path))
        for code in _inline(page)
        for method, path in _ENDPOINT.findall(code)
    ]
    known = {path for _, path in served} | {path.replace("/{}", "") for _, path in served}
    assert [item for item in named if item not in served and item[1] not in known] == []


@cache
def _endpoints() -> frozenset[tuple[str, str]]:
    paths = openapi()["paths"].items()
    named = {(method.upper(), re.sub(r"{\w+}", "{}", path)) for path, methods in paths for method in methods}
    return frozenset(named | {("GET", "/")})


def test_metrics_are_those_of_serving() -> None:
    source = (PROJECT_ROOT / "serve_app" / "metrics.py").read_text()
    named = set(
        re.findall(r"`ray_(mur_\w+?)(?:_total)?(?:{[^}]*})?`", (PROJECT_ROOT / "docs/reference/api.md").read_text())
    )
    assert named
    assert named == set(re.findall(r'"(mur_\w+)"', source))


@cache
def _inline(page: Path) -> list[str]:
    prose = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.S | re.M)
    return re.findall(r"`([^`\n]+)`", prose)


@cache
def _blocks(page: Path) -> list[str]:
    """The lines of code blocks, indented or fenced; those that go on after a backslash are joined."""
    text = page.read_text().replace("\\\n", " ")
    fenced = re.findall(r"^ *```[^\n]*\n(.*?)^ *```", text, flags=re.S | re.M)
    indented = re.findall(r"^ {4,}(\S.*)$", re.sub(r"^ *```.*?^ *```", "", text, flags=re.S | re.M), flags=re.M)
    return [line for block in fenced for line in block.splitlines()] + indented


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _docstrings(path: Path) -> Iterator[str]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value


@cache
def _is_file(name: str) -> bool:
    """By its path from the root, or by the end of its path, as far as the page names it."""
    return any(path == name or path.endswith(f"/{name}") for path in _files())


@cache
def _files() -> frozenset[str]:
    folders = [*CODE_FOLDERS, *OTHER_CODE, "docs"]
    found = [path for folder in folders for path in (PROJECT_ROOT / folder).rglob("*")]
    found += [*(PROJECT_ROOT / folder for folder in folders), *PROJECT_ROOT.glob("*")]
    return frozenset(str(path.relative_to(PROJECT_ROOT)) for path in found if "__pycache__" not in path.parts)


@cache
def _corpus() -> str:
    """Everything that runs or is configuration: no documentation, no docstring, no comment of Python."""
    own = Path(__file__).name
    paths = [PROJECT_ROOT / name for name in _files() if not name.startswith("docs/")]
    kept = [path for path in paths if path.is_file() and path.suffix in _SOURCES and path.name != own]
    return "\n".join(_code(path) for path in kept)


def _code(path: Path) -> str:
    text = path.read_text(errors="ignore")
    if path.suffix != ".py":
        return text
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = ""  # a docstring
    return ast.unparse(tree)


@cache
def _words() -> frozenset[str]:
    return frozenset(re.findall(r"\w+", _corpus()))


def _is_word(name: str) -> bool:
    return name in _words()


def _is_prefix(name: str) -> bool:
    """MUR_S3_ as in `MUR_S3_*`."""
    return name.endswith("_") and any(word.startswith(name) for word in _words())


def _names(code: str) -> Iterator[str]:
    """The identifiers, dotted names and keyword arguments of one piece of inline code."""
    if re.fullmatch(r"[A-Za-z_]\w*(\(.*\))?|[a-z]+(?:[-_][a-z]+)+", code) or _DOTTED.fullmatch(code):
        name, _, arguments = code.partition("(")
        yield from (word for word in (name, *re.findall(r"(\w+)=", arguments)) if word[:4] != "MUR_")


@cache
def _is_known(name: str) -> bool:
    if "." not in name:
        return _is_word(name) or name in _corpus()
    return _is_file(name) or name in _corpus() or _has(name)


def _has(dotted: str) -> bool:
    """A module of ours, or a name of one, or of a class of one; otherwise something that can be imported."""
    parts = dotted.split(".")
    if parts[0] == "settings":
        return parts[1] in Settings.model_fields
    modules, classes = _definitions()
    if any(name == dotted or name.endswith(f".{dotted}") for name in modules):
        return True
    for cut in range(1, len(parts)):
        owner, rest = ".".join(parts[:cut]), parts[cut:]
        for name, defined in modules.items():
            if (name == owner or name.endswith(f".{owner}")) and rest[0] in defined:
                return len(rest) == 1 or rest[1] in classes.get(rest[0], set())
    if parts[0] in classes:
        return parts[1] in classes[parts[0]]
    return _can_be_imported(parts)


def _can_be_imported(parts: list[str]) -> bool:
    try:
        found: Any = importlib.import_module(parts[0])
        for part in parts[1:]:
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return False
    return True


@cache
def _definitions() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """What each module defines, and what each class does."""
    modules: dict[str, set[str]] = {}
    classes: dict[str, set[str]] = {}
    for folder in CODE_FOLDERS:
        for path in (PROJECT_ROOT / folder).rglob("*.py"):
            tree = _tree(path)
            parts = path.relative_to(PROJECT_ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            modules[name] = set(_defined(tree.body))
            for node in tree.body:
                if isinstance(node, ast.ClassDef):
                    classes.setdefault(node.name, set()).update(_defined(node.body))
    return modules, classes


def _defined(body: Iterable[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)


def _commands(page: Path) -> Iterator[list[str]]:
    """Each call of mkrich, make, docker compose or a module, as words."""
    for line in [*_inline(page), *_blocks(page)]:
        for part in re.split(r"\s&&\s|\s#\s|\s\|\s|;\s|:\s(?=python -m)", line.removeprefix("$ ")):
            try:
                words = shlex.split(part)
            except ValueError:
                continue
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                words = words[1:]  # a variable for this command
            if words[:3] == ["docker", "compose", "exec"] or words[:2] == ["kubectl", "exec"]:
                yield words
                words = words[words.index("python") :] if "python" in words else []
            if words and Path(words[0]).name in ("mkrich", "make", "docker", "python"):
                yield [Path(words[0]).name, *words[1:]]


def _faults(words: list[str]) -> Iterator[str]:
    if words[:3] == ["python", "-m", "make_us_rich.cli"]:
        words = ["mkrich", *words[3:]]
    if words[0] == "mkrich":
        yield from _faults_of_mkrich(words[1:])
    elif words[0] == "make":
        yield from _faults_of_make(words[1:])
    elif words[:2] == ["python", "-m"]:
        yield from _faults_of_module(words[2], words[3:])
    elif words[:2] == ["docker", "compose"]:
        yield from _faults_of_compose(words[2:])


def _faults_of_mkrich(words: list[str]) -> Iterator[str]:
    command = _mkrich()
    while words and hasattr(command, "commands"):
        if words[0] not in command.commands:
            yield f"no command {words[0]}"
            return
        command, words = command.commands[words[0]], words[1:]
    options = {name: option for option in command.params for name in option.opts if name.startswith("-")}
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    given: list[str] = []
    words = [word for word in words if word != "…"]
    while words:
        word, words = words[0], words[1:]
        name, _, value = word.partition("=")
        if not word.startswith("-"):
            given.append(word)
        elif name not in options:
            yield f"no option {name}"
        elif not options[name].is_flag and not value:
            words = words[1:]
    if len(given) > len(arguments) and not any(argument.nargs == -1 for argument in arguments):
        yield f"{given} is more than it takes"
    for argument, word in zip(arguments, given, strict=False):
        choices = _choices(argument.type_descriptor.annotation)
        if choices and word not in choices and not _PLACEHOLDER.fullmatch(word):
            yield f"{word} is none of {choices}"


@cache
def _mkrich() -> Any:
    return typer.main.get_command(app)


def _choices(annotation: Any) -> list[str]:
    kinds = get_args(annotation) or (annotation,)
    return [str(member.value) for kind in kinds if isinstance(kind, EnumMeta) for member in kind]


def _faults_of_make(words: list[str]) -> Iterator[str]:
    makefile = (PROJECT_ROOT / "Makefile").read_text()
    for word in words:
        name, is_variable, _ = word.partition("=")
        if is_variable and f"$({name})" not in makefile:
            yield f"no variable {name}"
        if not is_variable and not re.search(rf"^{re.escape(name)}:", makefile, re.M):
            yield f"no target {name}"


def _faults_of_module(module: str, words: list[str]) -> Iterator[str]:
    path = PROJECT_ROOT / module.replace(".", "/")
    sources = [*path.glob("*.py")] if path.is_dir() else [path.with_suffix(".py")]
    if not sources or not sources[0].exists():
        yield f"no module {module}"
        return
    source = "\n".join(file.read_text() for file in sources)
    for word in words:
        if word.startswith("--") and f'"{word.partition("=")[0]}"' not in source:
            yield f"no option {word}"


@cache
def _compose_services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((PROJECT_ROOT / "docker-compose.yml").read_text())["services"]
    return services


def _faults_of_compose(words: list[str]) -> Iterator[str]:
    services = _compose_services()
    profiles = {profile for service in services.values() for profile in service.get("profiles", [])}
    plain, before = [], ""
    for word in words:
        if before == "--profile" and word not in profiles:
            yield f"no profile {word}"
        if before == "--scale" and word.partition("=")[0] not in services:
            yield f"no service {word}"
        if not word.startswith("-") and before not in ("--profile", "--scale"):
            plain.append(word)
        before = word
    if plain and plain[0] in ("up", "run", "exec", "restart"):
        named = plain[1:2] if plain[0] in ("run", "exec") else plain[1:]
        yield from (f"no service {name}" for name in named if name not in services)
