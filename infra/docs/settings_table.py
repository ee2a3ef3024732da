"""The table of every setting, from the Settings class itself."""

from __future__ import annotations

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from make_us_rich.core.settings import Settings


def settings_table(settings: type[BaseSettings] = Settings) -> str:
    """Raises ValueError for a field without a description."""
    rows = [_row(name, field) for name, field in settings.model_fields.items()]
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows])


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
