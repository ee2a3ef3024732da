"""Start the server. Its password is MUR_MLFLOW_PASSWORD, the same setting that its clients read."""

from __future__ import annotations

import argparse
import os
import sys

from make_us_rich.core.errors import MakeUsRichError, SettingsError
from make_us_rich.core.settings import get_settings

_DATABASE = "MLFLOW_BACKEND_STORE_URI"
_PROXIED = "mlflow-artifacts:/"  # clients read and write artifacts through this server


def main() -> None:
    parser = argparse.ArgumentParser(description="MLflow's tracking server with a password")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--artifacts-destination", required=True, help="such as s3://mlflow")
    arguments = parser.parse_args()
    try:
        database = _database_url()
    except MakeUsRichError as error:
        sys.exit(f"error: {error}")

    # The environment that `mlflow server` gives its workers.
    from mlflow.environment_variables import _MLFLOW_SGI_NAME, MLFLOW_SERVER_ENABLE_JOB_EXECUTION
    from mlflow.server import constants, handlers

    os.environ |= {
        constants.BACKEND_STORE_URI_ENV_VAR: database,
        constants.REGISTRY_STORE_URI_ENV_VAR: database,
        constants.ARTIFACT_ROOT_ENV_VAR: _PROXIED,
        constants.ARTIFACTS_DESTINATION_ENV_VAR: arguments.artifacts_destination,
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION.name: "false",
        _MLFLOW_SGI_NAME.name: "uvicorn",
    }
    handlers.initialize_backend_stores(
        database, database, _PROXIED
    )  # migrates the database, once, before the workers start
    import uvicorn

    uvicorn.run(
        "infra.mlflow_server.app:create",
        factory=True,
        host=arguments.host,
        port=arguments.port,
        workers=arguments.workers,
        log_level="info",
    )


def _database_url() -> str:
    """Return the address of MLflow's database. Raises SettingsError for a missing setting."""
    if not get_settings().mlflow_password.get_secret_value():
        raise SettingsError("MUR_MLFLOW_PASSWORD is empty: set it, because without it anyone could replace a model")
    if _DATABASE not in os.environ:
        raise SettingsError(f"{_DATABASE} is not set: give it the URL of MLflow's database")
    return os.environ[_DATABASE]


if __name__ == "__main__":
    main()
