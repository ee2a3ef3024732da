"""The model registry over MLflow's REST API.

Plain HTTP on purpose: `import mlflow` costs seconds and hundreds of megabytes in every serving replica and task.
A registered model is a pair and interval, `btc_usdt_1h`. Its aliases: `champion` is served, `previous` was before it.
A version's tags carry what readers of a forecast want to know of its model (see TAG_*).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import httpx

from make_us_rich.core.errors import NoChampion, RegistryError
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import Settings

CHAMPION = "champion"
PREVIOUS = "previous"

TAG_AS_OF_MS = "as_of_ms"  # the model has seen candles closed at or before this
TAG_ARCHITECTURE = "architecture"
TAG_MARKET = "market"  # binance, recorded or simulated
TAG_PINBALL = "pinball"  # mean over the held-out weeks, log return
TAG_SKILL_VS_NAIVE = "skill_vs_naive"  # fraction: 0.07 is 7 % less pinball loss than the random walk
TAG_SKILL_MARGIN = "skill_margin"  # fraction: the skill's 95 % interval reaches so far to either side
TAG_AIRFLOW_RUN = "airflow_run"  # dag id and run id, as their address in Airflow has them
TAG_COVERAGE_80 = "coverage_80"  # share of held-out closes inside q10..q90

_TIMEOUT_S = 30.0
_NO_SUCH_MODEL = "RESOURCE_DOES_NOT_EXIST"
_BAD_PARAMETER = "INVALID_PARAMETER_VALUE"


def model_name(pair: Pair, interval: Interval) -> str:
    return f"{pair}_{interval}"


def foundation_name(interval: Interval) -> str:
    """The model of all pairs, which theirs are fine-tuned from."""
    return f"foundation_{interval}"


@dataclass(frozen=True)
class ModelVersion:
    name: str
    version: int
    run_id: str
    created_ms: int
    tags: Mapping[str, str]


@dataclass(frozen=True)
class TrainingRun:
    """An MLflow run: what a version came from."""

    experiment_id: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]


class Registry:
    """Reads and alias changes. Every method raises RegistryError when MLflow refuses or cannot be reached."""

    def __init__(self, settings: Settings) -> None:
        login = settings.mlflow_user, settings.mlflow_password.get_secret_value()
        self._http = httpx.Client(base_url=settings.mlflow_url, auth=login, timeout=_TIMEOUT_S)

    def __enter__(self) -> Registry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def find(self, name: str, alias: str) -> ModelVersion | None:
        """The version under an alias, or None: only MLflow itself can say that there is none, no page of a proxy."""
        params = {"name": name, "alias": alias}
        answer = self._request("GET", "/api/2.0/mlflow/registered-models/alias", params=params)
        code = _error_code(answer)
        if code == _NO_SUCH_MODEL or (code == _BAD_PARAMETER and not self._has_alias(name, alias)):
            return None
        return _version(_member(_json(_raise_for_status(answer)), "model_version"))

    def _has_alias(self, name: str, alias: str) -> bool:
        """MLflow has no error code of its own for an alias that is missing; its list of them tells."""
        model = self._get("registered-models/get", {"name": name}, "registered_model")
        return any(item["alias"] == alias for item in model.get("aliases", []))

    def champion(self, name: str) -> ModelVersion:
        """Raises NoChampion when nothing was promoted yet."""
        found = self.find(name, CHAMPION)
        if found is None:
            raise NoChampion(f"{name} has no champion yet: run the train_pairs DAG for it first")
        return found

    def get(self, name: str, version: int) -> ModelVersion:
        params = {"name": name, "version": str(version)}
        return _version(self._get("model-versions/get", params, "model_version"))

    def versions(self, name: str, most: int = 100) -> list[ModelVersion]:
        """Newest first; empty for an unknown name."""
        params = {"filter": f"name='{name}'", "max_results": str(most), "order_by": "version_number DESC"}
        answer = self._get("model-versions/search", params)
        found = [_version(item) for item in answer.get("model_versions", [])]
        return sorted(found, key=lambda version: -version.version)

    def versions_tagged(self, name: str, key: str, value: str) -> list[ModelVersion]:
        """Those with this tag, newest first; empty for an unknown name."""
        query = f"name = '{name}' AND tags.`{key}` = '{value}'"
        answer = self._get("model-versions/search", {"filter": query, "max_results": "100"})
        found = [_version(item) for item in answer.get("model_versions", [])]
        return sorted(found, key=lambda version: -version.version)

    def run(self, run_id: str) -> TrainingRun:
        run = self._get("runs/get", {"run_id": run_id}, "run")
        data = run.get("data", {})
        return TrainingRun(
            experiment_id=run["info"]["experiment_id"],
            params={item["key"]: item["value"] for item in data.get("params", [])},
            metrics={item["key"]: float(item["value"]) for item in data.get("metrics", [])},
        )

    def metric_history(self, run_id: str, metric: str) -> list[float]:
        """A value a step, such as a loss an epoch; empty for an unknown metric."""
        answer = self._get("metrics/get-history", {"run_id": run_id, "metric_key": metric})
        rows = sorted(answer.get("metrics", []), key=lambda row: int(row.get("step", 0)))
        return [float(row["value"]) for row in rows]

    def set_alias(self, name: str, alias: str, version: int) -> None:
        self._send("POST", "registered-models/alias", {"name": name, "alias": alias, "version": str(version)})

    def set_tag(self, name: str, version: int, key: str, value: str) -> None:
        body = {"name": name, "version": str(version), "key": key, "value": value}
        self._send("POST", "model-versions/set-tag", body)

    def download(self, model: ModelVersion, path: str = "model.onnx") -> bytes:
        """One artifact file of a version, through MLflow's artifact proxy (no S3 keys needed)."""
        params = {"name": model.name, "version": str(model.version)}
        uri: str = self._get("model-versions/get-download-uri", params, "artifact_uri")
        folder = uri.removeprefix("mlflow-artifacts:").lstrip("/")
        return self._checked("GET", f"/api/2.0/mlflow-artifacts/artifacts/{folder}/{path}").content

    def _get(self, path: str, params: dict[str, str], member: str = "") -> Any:
        answer = _json(self._checked("GET", f"/api/2.0/mlflow/{path}", params=params))
        return _member(answer, member) if member else answer

    def _send(self, method: str, path: str, body: dict[str, str]) -> None:
        self._checked(method, f"/api/2.0/mlflow/{path}", json=body)

    def _checked(self, method: str, url: str, **rest: object) -> httpx.Response:
        return _raise_for_status(self._request(method, url, **rest))

    def _request(self, method: str, url: str, **rest: object) -> httpx.Response:
        try:
            return self._http.request(method, url, **rest)  # type: ignore[arg-type]
        except httpx.HTTPError as error:
            raise RegistryError(
                f"MLflow at {self._http.base_url} cannot be reached ({error}): is it running?"
            ) from error


def _error_code(answer: httpx.Response) -> str:
    """MLflow's own; empty for an answer that is none of its errors."""
    if not answer.is_client_error:
        return ""
    try:
        body = answer.json()
    except ValueError:
        return ""
    return str(body.get("error_code", "")) if isinstance(body, dict) else ""


def _raise_for_status(answer: httpx.Response) -> httpx.Response:
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        raise RegistryError(
            "MLflow refused the log-in: MUR_MLFLOW_USER and MUR_MLFLOW_PASSWORD must be those it was started with"
        )
    if answer.is_error:
        raise RegistryError(f"MLflow answered {answer.status_code} to {answer.url.path}: {answer.text[:300]}")
    return answer


def _json(answer: httpx.Response) -> Any:
    try:
        body = answer.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise RegistryError(f"the answer to {answer.url.path} is no JSON object: is it MLflow that answers there?")
    return body


def _member(answer: Any, name: str) -> Any:
    if not isinstance(answer, dict) or name not in answer:
        raise RegistryError(f"the answer has no {name}: is it MLflow that answers there?")
    return answer[name]


def _version(item: Mapping[str, Any]) -> ModelVersion:
    try:
        return ModelVersion(
            name=item["name"],
            version=int(item["version"]),
            run_id=item.get("run_id", ""),
            created_ms=int(item["creation_timestamp"]),
            tags={tag["key"]: tag["value"] for tag in item.get("tags", [])},
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise RegistryError(f"what should be a model version is none ({error!r}): is it MLflow that answers?") from None
