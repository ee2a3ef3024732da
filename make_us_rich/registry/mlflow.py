"""MLflow's own client, for calls that `registry.client` does not have. Importing mlflow takes seconds."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from make_us_rich.core.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient


def connect(settings: Settings) -> MlflowClient:
    """Return a client; sets the server and the credentials of `mlflow` for the whole process."""
    import mlflow

    # MLflow's artifact stores read the server and the credentials from the process, not from the client
    os.environ["MLFLOW_TRACKING_USERNAME"] = settings.mlflow_user
    os.environ["MLFLOW_TRACKING_PASSWORD"] = settings.mlflow_password.get_secret_value()
    mlflow.set_tracking_uri(settings.mlflow_url)
    return mlflow.MlflowClient(settings.mlflow_url)
