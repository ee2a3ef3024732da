"""Publish a fitted model to MLflow: a run with its parameters and metrics, the ONNX graph, a registered version."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import mlflow
import onnx
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature

from make_us_rich.forecasting.evaluation import COVERAGE, SKILL
from make_us_rich.forecasting.onnx_model import DESCRIPTION, open_session
from make_us_rich.forecasting.recipe import FittedModel
from make_us_rich.registry.client import (
    TAG_ARCHITECTURE,
    TAG_AS_OF_MS,
    TAG_COVERAGE_80,
    TAG_HORIZON_COVERAGES,
    TAG_HORIZON_SKILLS,
    TAG_MARKET,
    TAG_SKILL_MARGIN,
    TAG_SKILL_VS_NAIVE,
    TRAINING_EXPERIMENT,
    WEIGHTS_FILE,
)

# Given explicitly, because MLflow would spend seconds inferring them.
_REQUIREMENTS = ["onnxruntime"]


def publish(fitted: FittedModel, *, name: str, as_of_ms: int, market: str, tags: Mapping[str, str]) -> tuple[str, int]:
    """Log one model and register it under `name`, without an alias. Returns (run id, version).

    The version is created last: a crash before that leaves a run without a version, never an incomplete version.
    """
    mlflow.set_experiment(TRAINING_EXPERIMENT)
    as_of = datetime.fromtimestamp(as_of_ms / 1000, UTC)
    with mlflow.start_run(run_name=f"{name} as of {as_of:%Y-%m-%d %H:%M} UTC", tags=dict(tags)) as run:
        client = MlflowClient()
        params = [Param(key, str(value)) for key, value in fitted.params.items()]
        client.log_batch(run.info.run_id, params=params)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / WEIGHTS_FILE
            path.write_bytes(fitted.weights)
            client.log_artifact(run.info.run_id, str(path))
        model = mlflow.onnx.log_model(
            onnx.load_from_string(fitted.onnx),
            name="model",
            signature=infer_signature(fitted.input_example, _outputs(fitted)),
            input_example=fitted.input_example,
            pip_requirements=_REQUIREMENTS,
            save_as_external_data=False,  # the graph stays one file
            onnx_execution_providers=["CPUExecutionProvider"],
        )
        # After the model, because `log_model` asks the server for each metric of the run and links it to the model.
        client.log_batch(run.info.run_id, metrics=_metrics(fitted, model.model_id))
    with suppress(MlflowException):  # the name is registered already
        client.create_registered_model(name)
    version = client.create_model_version(
        name,
        source=model.model_uri,
        run_id=run.info.run_id,
        model_id=model.model_id,
        description=DESCRIPTION,
        tags=version_tags(fitted, as_of_ms, market) | dict(tags),
    )
    return run.info.run_id, int(version.version)


def load_weights(run_id: str) -> bytes:
    """Return the weights that `publish` logged with this run, as an npz file."""
    with tempfile.TemporaryDirectory() as folder:
        path = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=WEIGHTS_FILE, dst_path=folder)
        return Path(path).read_bytes()


def _metrics(fitted: FittedModel, model_id: str) -> list[Metric]:
    final = [Metric(key, float(value), 0, 0, model_id) for key, value in fitted.metrics.items()]
    curves = [
        Metric(key, float(value), 0, epoch) for epoch, row in enumerate(fitted.curves) for key, value in row.items()
    ]
    return final + curves


def _outputs(fitted: FittedModel) -> dict[str, object]:
    session = open_session(fitted.onnx)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, fitted.input_example), strict=True))


def version_tags(fitted: FittedModel, as_of_ms: int, market: str) -> dict[str, str]:
    """Return the tags that describe a model in the registry."""
    return {
        TAG_AS_OF_MS: str(as_of_ms),
        TAG_MARKET: market,
        TAG_ARCHITECTURE: str(fitted.params["architecture"]),
        TAG_SKILL_VS_NAIVE: repr(fitted.metrics["skill_vs_naive"]),
        TAG_SKILL_MARGIN: repr(fitted.metrics["skill_margin"]),
        TAG_COVERAGE_80: repr(fitted.metrics["coverage_80"]),
        TAG_HORIZON_SKILLS: _by_horizon(fitted, SKILL),
        TAG_HORIZON_COVERAGES: _by_horizon(fitted, COVERAGE),
    }


def _by_horizon(fitted: FittedModel, name: str) -> str:
    """Return a metric at each horizon, 1 candle ahead first, as a JSON list.

    Not rounded, so that readers recognise the first one as the model's own figure.
    """
    return json.dumps([fitted.metrics[f"{name}_h{horizon:02d}"] for horizon in range(1, fitted.holdout.horizons + 1)])
