"""python -m infra.docker.airflow_admin: create Airflow's first admin in the FAB auth manager's database.

Its name is MUR_AIRFLOW_USER, its password MUR_AIRFLOW_PASSWORD. Safe to repeat: an account that exists keeps its roles,
and its password is reset to the setting, because the dashboard and the command line log in with it.
"""

from __future__ import annotations

from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
from werkzeug.security import check_password_hash

from make_us_rich.core.errors import SettingsError
from make_us_rich.core.settings import get_settings


def ensure_admin(name: str, password: str) -> str:
    """Create the account, or reset its password; return a line for the log. Raises SettingsError without a password."""
    if not password:
        raise SettingsError("MUR_AIRFLOW_PASSWORD is empty: set the password of Airflow's first admin")
    with get_application_builder() as builder:
        accounts = builder.sm
        user = accounts.find_user(username=name)
        if user is None:
            role = accounts.find_role("Admin")
            if not accounts.add_user(name, name, "", f"{name}@localhost", role, password):
                raise SettingsError(f"Airflow refused to create the account {name}: its log says why")
            return f"Created Airflow's admin {name}"
        if check_password_hash(user.password, password):
            return f"Airflow's admin {name} exists and has the password of the settings"
        accounts.reset_password(user.id, password)
        return f"Reset the password of Airflow's admin {name} to that of the settings"


if __name__ == "__main__":
    settings = get_settings()
    print(ensure_admin(settings.airflow_user, settings.airflow_password.get_secret_value()))
