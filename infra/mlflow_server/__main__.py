"""See the package. The password is MUR_MLFLOW_PASSWORD, as those who call it know it."""

from __future__ import annotations

import argparse
import os
import sys

from make_us_rich.core.errors import MakeUsRichError, SettingsError
from make_us_rich.core.settings import get_settings

_DATABASE = "MLFLOW_BACKEND_STORE_URI"
_PROXIED = "mlflow-artifacts:/"  # clients read and write artifacts through this server


def main() -> None:
    parser = argparse.ArgumentParser(description="MLflow's tracking server behind a password")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--artifacts-destination", required=True, help="such as s3://mlflow")
    asked = parser.parse_args()
    try:
        database = _checked()
    except MakeUsRichError as error:
        sys.exit(f"error: {error}")

    # What `mlflow server` hands to its workers. Names and values are MLflow's.
    from mlflow.environment_variables import _MLFLOW_SGI_NAME, MLFLOW_SERVER_ENABLE_JOB_EXECUTION
    from mlflow.server import constants, handlers

    os.environ |= {
        constants.BACKEND_STORE_URI_ENV_VAR: database,
        constants.REGISTRY_STORE_URI_ENV_VAR: database,
        constants.ARTIFACT_ROOT_ENV_VAR: _PROXIED,
        constants.ARTIFACTS_DESTINATION_ENV_VAR: asked.artifacts_destination,
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION.name: "false",
        _MLFLOW_SGI_NAME.name: "uvicorn",
    }
    handlers.initialize_backend_stores(database, database, _PROXIED)  # migrates, before there are workers
    import uvicorn

    uvicorn.run(
        "infra.mlflow_server.app:create",
        factory=True,
        host=asked.host,
        port=asked.port,
        workers=asked.workers,
        log_level="info",
    )


def _checked() -> str:
    if not get_settings().mlflow_password.get_secret_value():
        raise SettingsError("MUR_MLFLOW_PASSWORD: set it: without it anyone could replace a model")
    if _DATABASE not in os.environ:
        raise SettingsError(f"{_DATABASE}: set it to the database of MLflow")
    return os.environ[_DATABASE]


if __name__ == "__main__":
    main()
