"""Build the table of every setting from the Settings class."""

from __future__ import annotations

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from make_us_rich.core.settings import Settings


def settings_table() -> str:
    """Return a markdown table. Raises ValueError for a setting without a description."""
    rows = [_row(name, field) for name, field in Settings.model_fields.items()]
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows])


def _row(name: str, field: FieldInfo) -> str:
    if not field.description:
        raise ValueError(f"Settings.{name} has no description: say what it is for")
    return f"| `MUR_{name.upper()}` | {_default(field.default)} | {field.description} |"


def _default(value: object) -> str:
    if isinstance(value, SecretStr):
        return "*for development*" if value.get_secret_value() else ""
    if isinstance(value, tuple):
        value = ",".join(value)
    return f"`{value}`" if value != "" else ""
