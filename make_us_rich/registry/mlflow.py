"""MLflow's own client, for what needs more than the registry's REST calls. Importing mlflow takes seconds."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from make_us_rich.core.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient


def connect(settings: Settings) -> MlflowClient:
    """Set the server and the log-in of this process's `mlflow`, and return a client."""
    import mlflow

    # MLflow's artifact stores take server and log-in from the process, not from a client
    os.environ["MLFLOW_TRACKING_USERNAME"] = settings.mlflow_user
    os.environ["MLFLOW_TRACKING_PASSWORD"] = settings.mlflow_password.get_secret_value()
    mlflow.set_tracking_uri(settings.mlflow_url)
    return mlflow.MlflowClient(settings.mlflow_url)
