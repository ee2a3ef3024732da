"""The tests' own servers: a file that starts one where a shared one would do makes the whole suite slower."""

from __future__ import annotations

import re

from tests.support.processes import PROJECT_ROOT

_START = re.compile(
    r'\b(own_mlflow_server|own_s3_server|postgres_server)\(|"-m", "infra\.(exchange|discord|mlflow_server)"'
    r"|(own_process)=True"
)
_REASONS = {
    ("contract/test_airflow_login.py", "postgres_server"): "Airflow has a database and a role of its own",
    ("contract/test_dashboard_connections.py", "own_process"): "`python -m dash_app` itself",
    ("contract/test_discord.py", "discord"): "the program itself",
    ("contract/test_exchange.py", "exchange"): "the program itself, with its options",
    ("contract/test_quota.py", "postgres_server"): "stops and starts it",
    ("contract/test_s3_server.py", "own_s3_server"): "needs to know the ports of its parts",
    ("infra/test_compose.py", "own_s3_server"): "has keys of its own",
    ("infra/test_compose.py", "postgres_server"): "creates databases and roles",
}


def test_only_these_files_start_a_server_instead_of_sharing_one() -> None:
    tests = PROJECT_ROOT / "tests"
    found = {
        (str(file.relative_to(tests)), match[1] or match[2] or match[3])
        for file in tests.rglob("*.py")
        if file.name.startswith(("test_", "conftest"))
        for match in _START.finditer(file.read_text())
    }
    assert found == set(_REASONS)
