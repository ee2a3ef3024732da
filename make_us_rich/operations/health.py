"""Health checks of an installation: `mkrich doctor`, the admin page and the DAG watch_service run them.

`check_components` asks each dependency whether it works and says how to repair what does not. `check_api` and
`check_pairs` look at the running service as its callers see it.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx
import psycopg2

from make_us_rich.core.errors import MakeUsRichError, MarketUnavailable, RegistryError, ServingError, StoreError
from make_us_rich.core.interval import HOUR_MS, Interval
from make_us_rich.core.pair import Series
from make_us_rich.core.responses import UNEXPECTED, bearer, read_json
from make_us_rich.core.settings import BINANCE_DATA_URL, Settings
from make_us_rich.core.times import current_ms
from make_us_rich.database import migrations
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import Database
from make_us_rich.documents import PairHealth, PairState, Readiness
from make_us_rich.market import limited_http
from make_us_rich.registry.client import CHAMPION, ModelVersion, Registry

_TIMEOUT_S = 10.0
_API_TIMEOUT_S = 30.0
_MAX_CLOCK_SKEW_S = 5.0
_MIN_FREE_BYTES = 2 * 2**30
_TOKENS = "`mkrich down`, then `mkrich up`; elsewhere `mkrich prepare` with the"
_NOT_LOADED = "is not loaded"
_S3_CHECK = "health-check/doctor"
_GRACE_MS = 15 * 60_000  # for the exchange, the pipeline and the swap of a model
_IS_IT_UP = "is it up? `mkrich status`, `mkrich logs {program}`, or `docker compose ps`; {setting} has its address"
_IS_IT_REACHED = "does this machine reach the address in {setting}?"
_PROGRAMS = {
    "airflow": "airflow-api-server",
    "api": "ray",
}  # of the embedded stack, where another name than the check's
_DEPLOY = "`mkrich deploy`; in containers `docker compose restart serve`"
_WRONG_SERVER = "is the address in {setting} right, or does a proxy answer in its place?"


class HealthProblem(MakeUsRichError):
    """A check found something wrong; `way_out` says how to repair it. A warning does not stop the other components."""

    def __init__(self, detail: str, way_out: str, *, warning: bool = False) -> None:
        super().__init__(detail)
        self.way_out = way_out
        self.warning = warning


@dataclass(frozen=True)
class HealthResult:
    """The result of the check of one component."""

    name: str
    state: Literal["ok", "warning", "failed"]
    detail: str
    way_out: str = ""


def check_components(settings: Settings, names: Collection[str] = ()) -> list[HealthResult]:
    """Run the checks of these names, or all, at the same time. Each waits for its dependency's timeout, 10 to 30 s."""
    chosen = names or tuple(_CHECKS)
    with ThreadPoolExecutor(len(chosen)) as pool:
        return list(pool.map(lambda name: _run_check(settings, name), chosen))


def _run_check(settings: Settings, name: str) -> HealthResult:
    check, setting = _CHECKS[name]
    try:
        return HealthResult(name, "ok", check(settings))
    except HealthProblem as problem:
        return HealthResult(name, "warning" if problem.warning else "failed", str(problem), problem.way_out)
    except ModuleNotFoundError as error:
        return HealthResult(name, "warning", f"not checked: {error.name} is not installed in this role")
    except (MakeUsRichError, psycopg2.Error, httpx.HTTPError) as error:
        elsewhere = name == "exchange" and settings.market == "binance"
        way_out = (_IS_IT_REACHED if elsewhere else _IS_IT_UP).format(
            program=_PROGRAMS.get(name, name), setting=setting
        )
        return HealthResult(name, "failed", str(error).strip() or repr(error), way_out)
    except UNEXPECTED as error:
        return HealthResult(name, "failed", f"unexpected answer: {error!r}", _WRONG_SERVER.format(setting=setting))


def check_api(settings: Settings) -> None:
    """Raise ServingError unless the gateway answers /healthz with 200."""
    _ask_api(settings, "/healthz", (200,))


def check_pairs(settings: Settings, *, now_ms: int | None = None) -> list[PairHealth]:
    """Check that each active pair is loaded, serves its champion, and has a fresh forecast, for every interval.

    Leaves out what no model serves yet. Raises ServingError or RegistryError when the gateway or MLflow does
    not answer.
    """
    readiness = read_readiness(settings)
    now_ms = current_ms() if now_ms is None else now_ms
    found = []
    with Registry(settings) as registry, Database.from_settings(settings) as database:
        for tracked in pairs_table.active(database):
            problems = {}
            for interval in settings.intervals:
                name = Series(tracked.pair, interval).name
                champion, state = registry.find(name, CHAMPION), readiness.pairs.get(name)
                if champion or state:
                    problems[interval] = _series_problem(state, champion, interval, now_ms)
            if problems:
                found.append(PairHealth(pair=tracked.pair, problem=_joined(problems)))
    return found


def _joined(problems: Mapping[Interval, str | None]) -> str | None:
    """Return one text of the problems, each with its interval if there are several intervals."""
    texts = [f"{interval}: {text}" if len(problems) > 1 else text for interval, text in problems.items() if text]
    return "; ".join(texts) or None


def _series_problem(
    state: PairState | None, champion: ModelVersion | None, interval: Interval, now_ms: int
) -> str | None:
    """Return what is wrong with a series, if anything. Without a champion of its own the foundation model serves it."""
    if state is None or _is_lost(state):
        return "it has a champion and is not loaded" if champion else "it was served and is not loaded"
    if state.asleep:
        return None
    if not state.ready or state.serves is None or state.as_of_ms is None:
        return f"it cannot be answered: {state.reason}"
    if state.refused:
        return f"it refuses {state.wanted}: {state.refused}"
    serves_champion = champion is None or (state.serves.name, state.serves.version) == (champion.name, champion.version)
    if champion and not serves_champion and now_ms - champion.created_ms > _GRACE_MS:
        return f"it serves {state.serves} instead of its champion, version {champion.version}"
    age_ms = now_ms - state.as_of_ms
    if age_ms > interval.ms + _GRACE_MS:
        return f"its newest forecast is {age_ms / HOUR_MS:.1f} hours old"
    return None


def _is_lost(state: PairState) -> bool:
    return state == PairState.lost()


def read_readiness(settings: Settings) -> Readiness:
    """Return the gateway's /readyz. Raises ServingError when it does not answer, or something else does."""
    return read_json(_ask_api(settings, "/readyz", (200, 503)), Readiness.model_validate, ServingError)


def _ask_api(settings: Settings, path: str, expected: tuple[int, ...]) -> httpx.Response:
    url = f"{settings.api_url}{path}"
    try:
        answer = httpx.get(url, timeout=_API_TIMEOUT_S)
    except httpx.HTTPError as error:
        raise ServingError(f"{url} does not answer: {error!r}") from error
    if answer.status_code not in expected:
        raise ServingError(f"{url} answered {answer.status_code}: {answer.text[:200]}")
    return answer


def _postgres(settings: Settings) -> str:
    with Database.from_settings(settings) as database, database.transaction(timeout_s=_TIMEOUT_S) as cursor:
        applied = migrations.applied(cursor)
    if unknown := sorted(applied - migrations.known()):
        raise HealthProblem(
            f"migrations {', '.join(unknown)} are of a newer version", "use that version here, or restore an old backup"
        )
    if missing := sorted(migrations.known() - applied):
        raise HealthProblem(f"migrations {', '.join(missing)} are not applied", "run `mkrich migrate`")
    return f"{len(applied)} migrations applied, none missing"


def _s3(settings: Settings) -> str:
    from make_us_rich.market.object_store import ObjectStore

    store = ObjectStore.from_settings(settings)
    # A listing, because any web server can answer a GET of one object with a page; only S3 answers with S3's XML.
    store.list_keys(_S3_CHECK)
    try:
        store.put(_S3_CHECK, b"written by the health check")
        store.remove(_S3_CHECK)
    except StoreError as error:
        raise HealthProblem(
            f"bucket {settings.candles_bucket} can be read and not written: {error}",
            "free space on the S3 server's disk, or let MUR_S3_ACCESS_KEY write",
        ) from None
    return f"bucket {settings.candles_bucket} can be read and written"


def _mlflow(settings: Settings) -> str:
    with Registry(settings) as registry, Database.from_settings(settings) as database:
        pairs = [tracked.pair for tracked in pairs_table.active(database)]
        for interval in settings.intervals:
            missing = [pair for pair in pairs if not registry.find(Series(pair, interval).name, CHAMPION)]
            if missing:
                names = " ".join(missing)
                option = "" if interval == settings.default_interval else f" --interval {interval}"
                way_out = f"run `mkrich train {names}{option}`"
                raise HealthProblem(f"no champion of {interval} candles yet: {names}", way_out, warning=True)
    return f"a champion for each of {len(pairs)} pairs, of candles of {', '.join(settings.intervals)}"


def _ray(settings: Settings) -> str:
    token = settings.ray_token.get_secret_value()
    answer = httpx.get(f"{settings.ray_url}/api/serve/applications/", headers=bearer(token), timeout=_TIMEOUT_S)
    if answer.status_code in (401, 403) and not token:
        raise HealthProblem(
            "Ray requires a token, and this component has none", "check where MUR_RAY_TOKEN is set", warning=True
        )
    if answer.status_code in (401, 403):
        raise HealthProblem("Ray refuses the token", "give MUR_RAY_TOKEN the value that Ray was started with")
    states = {name: app["status"] for name, app in answer.raise_for_status().json()["applications"].items()}
    problems = [f"{name} is {state}" for name, state in states.items() if state != "RUNNING"]
    if problems or not states:
        raise HealthProblem(
            "; ".join(problems) or "no Serve application is deployed", f"run {_DEPLOY}; logs: {settings.ray_url}"
        )
    return f"{len(states)} Serve applications are running"


def _airflow(settings: Settings) -> str:
    from make_us_rich.pipeline.airflow import Airflow, AirflowError, dag_of

    answer = httpx.get(f"{settings.airflow_url}/api/v2/monitor/health", timeout=_TIMEOUT_S)
    parts = answer.raise_for_status().json().items()
    unhealthy = [name for name, part in parts if part and part["status"] not in ("healthy", None)]
    if unhealthy:
        raise HealthProblem(f"not healthy: {', '.join(unhealthy)}", "see the logs of these parts of Airflow")
    try:
        with Airflow.from_settings(settings) as airflow:
            known, wanted = airflow.dag_ids(), [dag_of("train_pairs", interval) for interval in settings.intervals]
            missing = ", ".join(name for name in wanted if name not in known)
            if missing:
                raise HealthProblem(f"DAGs are missing: {missing}", "look for import errors in Airflow")
            paused = ", ".join(sorted(airflow.paused_dags()))
    except AirflowError as error:
        raise HealthProblem(
            str(error), "set MUR_AIRFLOW_USER and MUR_AIRFLOW_PASSWORD to start runs from here", warning=True
        ) from None
    if paused and not settings.dags_paused:
        raise HealthProblem(
            f"these DAGs are paused and start no run: {paused}",
            "unpause them in Airflow, or all DAGs of an embedded stack with `mkrich start agent`",
            warning=True,
        )
    return f"healthy, and {', '.join(wanted)} is loaded{f'; paused by MUR_DAGS_PAUSED: {paused}' if paused else ''}"


def _api(settings: Settings) -> str:
    from make_us_rich.client import Client, ServiceRefused

    states = read_readiness(settings).pairs
    lost = _lost_pairs(settings)
    waiting = {name: state for name, state in states.items() if not state.ready and not (lost and _is_lost(state))}
    problems = [*(f"{name}: {state.reason}" for name, state in waiting.items()), *lost]
    if problems:
        raise HealthProblem("; ".join(problems), f"run {_DEPLOY}, and read Ray's log if that does not help")
    tokens = {"MUR_SERVICE_TOKEN": settings.service_token, "MUR_DASHBOARD_TOKEN": settings.dashboard_token}
    given = {name: token for name, secret in tokens.items() if (token := secret.get_secret_value())}
    variable, token = next(iter(given.items()), ("MUR_SERVICE_TOKEN", ""))
    try:
        with Client(settings.api_url, token) as client:
            client.usage()
    except ServiceRefused as error:
        raise HealthProblem(str(error), f"{_TOKENS} {variable} of the settings") from None
    return f"{len(states)} pairs are ready, {variable} is valid"


def _lost_pairs(settings: Settings) -> list[str]:
    """Return the pairs that have a model and that the service does not know, as after a restart of Ray's head."""
    try:
        found = check_pairs(settings)
    except (RegistryError, psycopg2.Error, ModuleNotFoundError):
        return []  # other checks say so
    return [f"{item.pair}: {item.problem}" for item in found if item.problem and _NOT_LOADED in item.problem]


def _exchange(settings: Settings) -> str:
    answer = limited_http.get(f"{settings.exchange_url}/api/v3/time", timeout_s=_TIMEOUT_S)
    if answer.status_code == httpx.codes.UNAVAILABLE_FOR_LEGAL_REASONS:
        refusal = "Binance refuses requests from this country or cloud (HTTP 451)"
        raise HealthProblem(refusal, f"set MUR_EXCHANGE_URL={BINANCE_DATA_URL}")
    if answer.status_code != httpx.codes.OK:
        raise MarketUnavailable(f"the exchange answers {answer.status_code}")
    skew_s = answer.json()["serverTime"] / 1000 - time.time()
    if abs(skew_s) > _MAX_CLOCK_SKEW_S and settings.market == "binance":
        raise HealthProblem(f"this clock is {skew_s:+.0f} s off the exchange's", "let NTP set this machine's clock")
    return f"the {settings.market} market answers"


def _discord(settings: Settings) -> str:
    url = settings.discord_webhook_url.get_secret_value()
    if not url:
        raise HealthProblem("failures are not posted anywhere", "set MUR_DISCORD_WEBHOOK_URL", warning=True)
    if httpx.get(url, timeout=_TIMEOUT_S).status_code in (401, 404):
        raise HealthProblem(
            "Discord does not know the webhook", "make a new one in Discord and set MUR_DISCORD_WEBHOOK_URL"
        )
    return "the webhook exists"


def _disk(settings: Settings) -> str:
    """Check the disk of this component's data: in an embedded stack that of its stores, and that of Ray's sessions."""
    folders = [_existing(Path(settings.cache_folder).expanduser()), Path(tempfile.gettempdir())]
    free, folder = min((shutil.disk_usage(folder).free, folder) for folder in folders)
    if free < _MIN_FREE_BYTES:
        problem = f"{free / 2**30:.1f} GiB are free in {folder}"
        raise HealthProblem(problem, f"free at least 2 GiB on the disk of {folder}", warning=True)
    return f"{free / 2**30:.0f} GiB are free in {folder}"


def _existing(folder: Path) -> Path:
    """Return the folder, or the first of its parents that exists."""
    return next(each for each in (folder, *folder.parents) if each.exists())


# The check of each component, and the setting that holds its address.
_CHECKS: dict[str, tuple[Callable[[Settings], str], str]] = {
    "postgres": (_postgres, "MUR_DATABASE_URL"),
    "s3": (_s3, "MUR_S3_ENDPOINT_URL"),
    "mlflow": (_mlflow, "MUR_MLFLOW_URL"),
    "ray": (_ray, "MUR_RAY_URL"),
    "airflow": (_airflow, "MUR_AIRFLOW_URL"),
    "api": (_api, "MUR_API_URL"),
    "exchange": (_exchange, "MUR_EXCHANGE_URL"),
    "discord": (_discord, "MUR_DISCORD_WEBHOOK_URL"),
    "disk": (_disk, ""),
}
