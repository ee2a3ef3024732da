"""The table of every setting, from the Settings class itself."""

from __future__ import annotations

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from make_us_rich.settings import Settings

BEGIN, END = "<!-- made by `make docs` from make_us_rich/settings.py -->", "<!-- end -->"


def with_settings_table(page: str, settings: type[BaseSettings] = Settings) -> str:
    """The page with its table renewed. Raises ValueError for a field without a description."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    rows = [_row(name, field) for name, field in settings.model_fields.items()]
    table = "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows])
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


def _row(name: str, field: FieldInfo) -> str:
    if not field.description:
        raise ValueError(f"Settings.{name} has no description: say what it is for")
    return f"| `MUR_{name.upper()}` | {_shown(field.default)} | {field.description} |"


def _shown(default: object) -> str:
    if isinstance(default, SecretStr):
        return "*for development*" if default.get_secret_value() else ""
    if isinstance(default, tuple):
        default = ",".join(default)
    return f"`{default}`" if default != "" else ""
