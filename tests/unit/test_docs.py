from __future__ import annotations

import re

from infra.docs.settings_table import with_settings_table
from tests.support.processes import PROJECT_ROOT

DOCS = PROJECT_ROOT / "docs"
PAGE = DOCS / "settings.md"


def test_every_setting_is_documented() -> None:
    page = PAGE.read_text()
    assert with_settings_table(page) == page, "docs/settings.md is older than the settings: run `make docs`"


def test_every_variable_of_compose_is_documented() -> None:
    compose = (PROJECT_ROOT / "docker-compose.yml").read_text()
    variables = set(re.findall(r"\$\{([A-Z][A-Z0-9_]+)", compose))
    undocumented = sorted(name for name in variables if f"`{name}`" not in PAGE.read_text())
    assert variables
    assert undocumented == []


def test_every_alarm_says_what_to_do() -> None:
    rules = PROJECT_ROOT / "infra" / "monitoring" / "rules.yml"
    alarms = re.findall(r"alert: (\w+)", rules.read_text()) if rules.exists() else []
    missing = [name for name in alarms if f"`{name}`" not in (DOCS / "alarms.md").read_text()]
    assert missing == []
