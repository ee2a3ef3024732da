"""Client of the model registry, over MLflow's REST API.

It is plain HTTP because `import mlflow` costs seconds and hundreds of megabytes in every serving replica and task.
A registered model is named by pair and interval, `btc_usdt_1h`. The alias `champion` is the version that is served,
`previous` the champion before it. The tags of a version (TAG_*) describe its model.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import httpx

from make_us_rich.core.errors import RegistryError, UnknownVersion
from make_us_rich.core.interval import HOUR_MS
from make_us_rich.core.responses import CONNECTIONS, UNEXPECTED, read_json
from make_us_rich.core.settings import Settings
from make_us_rich.core.times import current_ms
from make_us_rich.documents import Model

if TYPE_CHECKING:
    from mlflow import MlflowClient

T = TypeVar("T")

CHAMPION = "champion"
PREVIOUS = "previous"
TRAINING_EXPERIMENT = "train_pairs"  # MLflow's experiment of every training run

TAG_AS_OF_MS = "as_of_ms"  # the model was trained on candles closed at or before this
TAG_ARCHITECTURE = "architecture"
TAG_MARKET = "market"  # binance, recorded or simulated
TAG_SKILL_VS_NAIVE = "skill_vs_naive"  # fraction: 0.07 is 7 % less pinball loss than the random walk
TAG_SKILL_MARGIN = "skill_margin"  # fraction: half the width of the skill's 95 % confidence interval
TAG_AIRFLOW_RUN = "airflow_run"  # DAG id and run id, as in the URL of the run in Airflow
BACKFILL_RUN = "/runs/backfill__"  # in the tag of a version that a backfill trained
TAG_SHIPPED = "shipped"  # digest of a foundation that came with the package: see shipped.py
TAG_ADAPTED_TO = "adapted_to"  # the only pair that a version of a foundation serves: see adapted.py
TAG_ADAPTED_FROM = "adapted_from"  # version of the foundation that it was made of
TAG_ADAPTED_MS = "adapted_ms"  # it was adapted to candles closed at or before this
TAG_COVERAGE_80 = "coverage_80"  # share of held-out closes inside q10..q90
TAG_HORIZON_SKILLS = "horizon_skills"  # JSON list: skill_vs_naive at each horizon, 1 candle ahead first
TAG_HORIZON_COVERAGES = "horizon_coverages"  # JSON list: coverage_80 at each horizon

# among the artifacts of a training run
_WEIGHTS_FILE = "weights.npz"
_MODEL_FOLDER, _MODEL_FILE = "model", "model.onnx"

_API = "/api/2.0/mlflow/"
_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts/"
_TIMEOUT_S = 30.0
REQUEST_TIMEOUT_S = 2.5  # with all that surrounds it, an answer takes 3 s at most
"""Timeout of MLflow for code that answers a request itself."""
_UNREACHABLE_TTL_S = 5.0
_NO_SUCH_MODEL = "RESOURCE_DOES_NOT_EXIST"
_BAD_PARAMETER = "INVALID_PARAMETER_VALUE"
_EXISTS = "RESOURCE_ALREADY_EXISTS"


@dataclass(frozen=True)
class ModelVersion:
    name: str
    version: int
    run_id: str
    created_ms: int
    tags: Mapping[str, str]

    @property
    def as_of_ms(self) -> int:
        """The close of the newest candle that the model was trained on."""
        return int(self.tags.get(TAG_AS_OF_MS, self.created_ms))

    @property
    def shipped(self) -> bool:
        """True for a foundation that came with the package: its candles end long before the installation began."""
        return TAG_SHIPPED in self.tags

    def describe(self, now_ms: int) -> Model:
        """Return what readers of a forecast need to know of its model; figures that were never measured are None."""
        return Model(
            name=self.name,
            version=self.version,
            as_of_ms=self.as_of_ms,
            architecture=self.tags.get(TAG_ARCHITECTURE, "unknown"),
            skill_vs_naive=self.number(TAG_SKILL_VS_NAIVE),
            skill_margin=self.number(TAG_SKILL_MARGIN),
            coverage_80=self.number(TAG_COVERAGE_80),
            age_hours=round((now_ms - self.as_of_ms) / HOUR_MS, 2),
            shipped=self.shipped,
            adapted_ms=int(self.tags[TAG_ADAPTED_MS]) if TAG_ADAPTED_MS in self.tags else None,
        )

    @property
    def horizon_skills(self) -> list[float | None]:
        """Skill against the random walk at each horizon, 1 candle ahead first."""
        return self._by_horizon(TAG_HORIZON_SKILLS, TAG_SKILL_VS_NAIVE)

    @property
    def horizon_coverages(self) -> list[float | None]:
        """Coverage of the 80 % band at each horizon, 1 candle ahead first."""
        return self._by_horizon(TAG_HORIZON_COVERAGES, TAG_COVERAGE_80)

    def _by_horizon(self, tag: str, tag_of_next: str) -> list[float | None]:
        """Return the figures of a tag; without it, as for models of one horizon, that of the next close alone."""
        return list(json.loads(self.tags[tag])) if tag in self.tags else [self.number(tag_of_next)]

    def number(self, tag: str) -> float | None:
        """Return the figure that a tag holds, or None when it was never measured."""
        return float(self.tags[tag]) if tag in self.tags else None


@dataclass(frozen=True)
class TrainingRun:
    """The MLflow run that a version was trained in."""

    run_id: str
    artifact_uri: str
    experiment_id: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]


class Registry:
    """Reads models and moves aliases. Every method raises RegistryError when MLflow refuses or is unreachable.

    timeout_s: the longest wait for MLflow to send anything. skip_unreachable: after a request without an answer, all
    clients of this process fail at once for five seconds, so that not each of many callers waits for the timeout.
    """

    _unreachable: ClassVar[dict[str, tuple[float, str]]] = {}  # by URL: until when, and what failed

    def __init__(self, settings: Settings, *, timeout_s: float = _TIMEOUT_S, skip_unreachable: bool = False) -> None:
        login = settings.mlflow_user, settings.mlflow_password.get_secret_value()
        self._http = httpx.Client(base_url=settings.mlflow_url, auth=login, timeout=timeout_s, limits=CONNECTIONS)
        self._url = settings.mlflow_url
        self._skip_unreachable = skip_unreachable

    @classmethod
    def for_requests(cls, settings: Settings) -> Registry:
        """Return a client for code that answers a request itself: a silent MLflow delays it by REQUEST_TIMEOUT_S."""
        return cls(settings, timeout_s=REQUEST_TIMEOUT_S, skip_unreachable=True)

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *error: object) -> None:
        self._http.close()

    def find(self, name: str, alias: str) -> ModelVersion | None:
        """Return the version under an alias, or None where MLflow says that there is none.

        The 404 page of a proxy is an error, not an absent alias.
        """
        answer = self._request("GET", f"{_API}registered-models/alias", params={"name": name, "alias": alias})
        code = _error_code(answer)
        if code == _NO_SUCH_MODEL or (code == _BAD_PARAMETER and not self._has_alias(name, alias)):
            return None
        return _read(answer, lambda body: _version(body["model_version"]))

    def _has_alias(self, name: str, alias: str) -> bool:
        """Look into the model's list of aliases: MLflow has no error code of its own for a missing alias."""
        return self._get(
            "registered-models/get",
            {"name": name},
            lambda body: any(item["alias"] == alias for item in body["registered_model"].get("aliases", [])),
        )

    def get(self, name: str, version: int) -> ModelVersion:
        """Return one version by its number. Raises UnknownVersion."""
        answer = self._request("GET", f"{_API}model-versions/get", {"name": name, "version": str(version)})
        if _error_code(answer) in (_NO_SUCH_MODEL, _BAD_PARAMETER):
            raise UnknownVersion(f"{name} has no version {version}: see `mkrich models`")
        return _read(answer, lambda body: _version(body["model_version"]))

    def versions(self, name: str, most: int = 100) -> list[ModelVersion]:
        """Return up to `most` versions, newest first; none for an unknown name."""
        return self._search(f"name = '{name}'", most)

    def versions_with_aliases(self, name: str) -> list[tuple[ModelVersion, list[str]]]:
        """Return up to 100 versions with their aliases, newest first, and older ones that have an alias.

        None for an unknown name. The aliases are CHAMPION and PREVIOUS.
        """
        by_alias = {alias: found for alias in (CHAMPION, PREVIOUS) if (found := self.find(name, alias))}
        versions = {item.version: item for item in (*self.versions(name), *by_alias.values())}
        return [
            (item, [alias for alias, found in by_alias.items() if found.version == number])
            for number, item in sorted(versions.items(), reverse=True)
        ]

    def versions_tagged(self, name: str, key: str, value: str) -> list[ModelVersion]:
        """Return the versions with this tag, newest first; none for an unknown name."""
        return self._search(f"name = '{name}' AND tags.`{key}` = '{value}'", 100)

    def _search(self, query: str, most: int) -> list[ModelVersion]:
        params = {"filter": query, "max_results": str(most), "order_by": "version_number DESC"}
        return self._get(
            "model-versions/search", params, lambda body: [_version(item) for item in body.get("model_versions", [])]
        )

    def run(self, run_id: str) -> TrainingRun:
        """Return the parameters and final metrics of a training run."""
        return self._get("runs/get", {"run_id": run_id}, lambda body: _training_run(body["run"]))

    def metric_history(self, run_id: str, metric: str) -> list[float]:
        """Return a metric's values by step, such as the loss of each epoch; none for an unknown metric."""
        params = {"run_id": run_id, "metric_key": metric}
        points = self._get("metrics/get-history", params, lambda body: list(body.get("metrics", [])))
        return [float(point["value"]) for point in sorted(points, key=lambda point: int(point.get("step", 0)))]

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Point an alias at a version; the last writer wins."""
        self._post("registered-models/alias", {"name": name, "alias": alias, "version": str(version)})

    def set_tag(self, name: str, version: int, key: str, value: str) -> None:
        """Set or replace one tag of a version."""
        self._post("model-versions/set-tag", {"name": name, "version": str(version), "key": key, "value": value})

    def download(self, model: ModelVersion) -> bytes:
        """Return the ONNX graph of a version, through MLflow's artifact proxy: no S3 keys are needed."""
        params = {"name": model.name, "version": str(model.version)}
        uri = self._get("model-versions/get-download-uri", params, lambda body: str(body["artifact_uri"]))
        return _checked(self._request("GET", f"{_artifacts(uri)}/{_MODEL_FILE}")).content

    def weights(self, model: ModelVersion) -> bytes:
        """Return the weights that a version was published with, as an npz file."""
        uri = self.run(model.run_id).artifact_uri
        return _checked(self._request("GET", f"{_artifacts(uri)}/{_WEIGHTS_FILE}")).content

    def publish(
        self,
        name: str,
        title: str,
        *,
        graph: bytes,
        weights: bytes | None = None,
        params: Mapping[str, object],
        metrics: Mapping[str, float],
        curves: Sequence[Mapping[str, float]] = (),
        tags: Mapping[str, str],
        description: str,
    ) -> ModelVersion:
        """Log a finished training run and register its ONNX graph as a version of `name`, without an alias.

        title: of the run. curves: metrics of each epoch. tags: of the run and the version. The version is created last:
        a crash before that leaves a run without a version, never an incomplete version.
        """
        now_ms = current_ms()
        begun = {"experiment_id": self._experiment_id(), "run_name": title, "start_time": now_ms, "tags": _items(tags)}
        run = self._create("runs/create", begun, lambda body: _training_run(body["run"]))
        by_step = [(0, metrics), *enumerate(curves)]
        logged = {
            "run_id": run.run_id,
            "params": _items({key: str(value) for key, value in params.items()}),
            "metrics": [item | {"timestamp": now_ms, "step": step} for step, row in by_step for item in _items(row)],
        }
        self._post("runs/log-batch", logged)
        for path, content in ((f"{_MODEL_FOLDER}/{_MODEL_FILE}", graph), (_WEIGHTS_FILE, weights)):
            if content is not None:
                _checked(self._request("PUT", f"{_artifacts(run.artifact_uri)}/{path}", content=content))
        self._post("runs/update", {"run_id": run.run_id, "status": "FINISHED", "end_time": now_ms})
        created = self._request("POST", f"{_API}registered-models/create", body={"name": name})
        if _error_code(created) != _EXISTS:
            _checked(created)
        version = {
            "name": name,
            "source": f"{run.artifact_uri}/{_MODEL_FOLDER}",
            "run_id": run.run_id,
            "tags": _items(tags),
            "description": description,
        }
        return self._create("model-versions/create", version, lambda body: _version(body["model_version"]))

    def _experiment_id(self) -> str:
        """Return the id of the experiment of all training runs, which is created when it is absent."""
        created = self._request("POST", f"{_API}experiments/create", body={"name": TRAINING_EXPERIMENT})
        if _error_code(created) != _EXISTS:
            return _read(created, lambda body: str(body["experiment_id"]))
        params = {"experiment_name": TRAINING_EXPERIMENT}
        return self._get("experiments/get-by-name", params, lambda body: str(body["experiment"]["experiment_id"]))

    def _get(self, path: str, params: Mapping[str, str], read: Callable[[Any], T]) -> T:
        return _read(self._request("GET", _API + path, params=params), read)

    def _post(self, path: str, body: Mapping[str, object]) -> None:
        _checked(self._request("POST", _API + path, body=body))

    def _create(self, path: str, body: Mapping[str, object], read: Callable[[Any], T]) -> T:
        return _read(self._request("POST", _API + path, body=body), read)

    def _request(
        self,
        method: str,
        url: str,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        until_s, failure = self._unreachable.get(self._url, (0.0, ""))
        if self._skip_unreachable and time.monotonic() < until_s:
            raise RegistryError(failure)
        try:
            answer = self._http.request(method, url, params=params, json=body, content=content)
        except httpx.HTTPError as error:
            failure = f"MLflow at {self._http.base_url} cannot be reached ({error}): is it running?"
            self._unreachable[self._url] = time.monotonic() + _UNREACHABLE_TTL_S, failure
            raise RegistryError(failure) from error
        self._unreachable.pop(self._url, None)
        return answer


def mlflow_page(mlflow_url: str, *path: str) -> str:
    """Return the address of a page of MLflow, such as ("experiments", id, "runs"), in the view for training runs.

    MLflow opens its pages in a view for language models otherwise, where ours are empty.
    """
    return f"{mlflow_url}/#/{'/'.join(path)}?workflowType=machine_learning"


def connect_mlflow(settings: Settings) -> MlflowClient:
    """Return MLflow's own client, for what `Registry` lacks. Importing mlflow takes seconds.

    Sets the server and the credentials of `mlflow` for the whole process.
    """
    import mlflow

    # MLflow's artifact stores read the server and the credentials from the process, not from the client
    os.environ["MLFLOW_TRACKING_USERNAME"] = settings.mlflow_user
    os.environ["MLFLOW_TRACKING_PASSWORD"] = settings.mlflow_password.get_secret_value()
    mlflow.set_tracking_uri(settings.mlflow_url)
    return mlflow.MlflowClient(settings.mlflow_url)


def _artifacts(uri: str) -> str:
    """Return the path of an artifact folder at the artifact proxy."""
    return _ARTIFACTS + uri.removeprefix("mlflow-artifacts:").lstrip("/")


def _items(values: Mapping[str, str] | Mapping[str, float]) -> list[dict[str, str | float]]:
    """Return tags, parameters or metrics as MLflow's API reads them: NaN and infinity as text."""
    return [
        {"key": key, "value": value if isinstance(value, str) or math.isfinite(value) else json.dumps(value)}
        for key, value in values.items()
    ]


def _error_code(answer: httpx.Response) -> str:
    """Return MLflow's error code; empty for anything that is not an error of MLflow."""
    try:
        return str(answer.json()["error_code"]) if answer.is_client_error else ""
    except UNEXPECTED:
        return ""


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        raise RegistryError(
            "MLflow refused the log-in: MUR_MLFLOW_USER and MUR_MLFLOW_PASSWORD must be those it was started with"
        )
    if answer.is_error:
        raise RegistryError(f"MLflow answered {answer.status_code} to {answer.url.path}: {answer.text[:300]}")
    return answer


def _read(answer: httpx.Response, read: Callable[[Any], T]) -> T:
    return read_json(_checked(answer), read, lambda reason: RegistryError(f"MLflow is expected, but {reason}"))


def _version(item: Mapping[str, Any]) -> ModelVersion:
    return ModelVersion(
        name=item["name"],
        version=int(item["version"]),
        run_id=item.get("run_id", ""),
        created_ms=int(item["creation_timestamp"]),
        tags={tag["key"]: tag["value"] for tag in item.get("tags", [])},
    )


def _training_run(run: Mapping[str, Any]) -> TrainingRun:
    data = run.get("data", {})
    return TrainingRun(
        run_id=run["info"]["run_id"],
        artifact_uri=run["info"]["artifact_uri"],
        experiment_id=run["info"]["experiment_id"],
        params={item["key"]: item["value"] for item in data.get("params", [])},
        metrics={item["key"]: float(item["value"]) for item in data.get("metrics", [])},
    )
