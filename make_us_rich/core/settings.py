"""Every setting, read once at a process's edge into a frozen object and passed down from there."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from make_us_rich.core.errors import InputError, SettingsError
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair

BINANCE_URL = "https://api.binance.com"
BINANCE_DATA_URL = "https://data-api.binance.vision"
"""Binance's host of public market data alone, which answers where the other one refuses the location (HTTP 451).

Source: https://developers.binance.com/docs/binance-spot-api-docs/faqs/market_data_only
"""

DEVELOPMENT_SECRET = "development-only"
_PLACEHOLDERS = (DEVELOPMENT_SECRET, "change-me", "changeme", "change_me", "password")
_SHORTEST, _FEWEST_DIFFERENT = 12, 5


def secret_fault(value: str) -> str:
    """Why a secret is refused, in words that do not show it; empty when it is fine.

    Of a URL its password is judged. An empty secret is fine: a component is not given what it need not know.
    """
    secret = (urlsplit(value).password or "") if "://" in value else value
    for placeholder in _PLACEHOLDERS:
        if placeholder in secret.lower():
            return f"contains the placeholder {placeholder!r}"
    if secret and len(secret) < _SHORTEST:
        return f"has fewer than {_SHORTEST} characters"
    if secret and len(set(secret)) < _FEWEST_DIFFERENT:
        return f"has fewer than {_FEWEST_DIFFERENT} different characters"
    return ""


class Settings(BaseSettings):
    """Environment variables named MUR_ and the field in capitals; the defaults suit a developer's machine."""

    model_config = SettingsConfigDict(env_prefix="MUR_", frozen=True, extra="ignore")

    environment: Annotated[
        Literal["development", "production"], Field(description="`production` refuses to start with a weak secret")
    ] = "development"
    secret_key: Annotated[SecretStr, Field(description="signs the dashboard's sessions")] = SecretStr(
        DEVELOPMENT_SECRET
    )

    # what to forecast
    pairs: Annotated[
        tuple[Pair, ...], NoDecode, Field(description="pairs that a new installation starts with, comma separated")
    ] = (Pair("btc", "usdt"), Pair("eth", "usdt"), Pair("chz", "usdt"))
    pooled_pairs: Annotated[
        tuple[Pair, ...], NoDecode, Field(description="those of them that share one serving process")
    ] = ()
    interval: Annotated[Interval, Field(description="candle interval; only 1h is supported")] = Interval.H1
    history_candles: Annotated[int, Field(ge=1500, description="candles a training run looks back over")] = 8760 + 1440
    architecture: Annotated[str, Field(description="model trained by default")] = "lstm"
    model_expiry_hours: Annotated[int, Field(ge=1, description="age at which a forecast carries a warning")] = 24 * 35

    # the market
    market: Annotated[
        Literal["binance", "recorded", "simulated"],
        Field(description="where prices come from; shown beside every forecast"),
    ] = "binance"
    exchange_url: Annotated[
        str,
        Field(
            description="base URL of Binance's REST API; "
            f"{BINANCE_DATA_URL} where this one refuses the country or cloud (HTTP 451)"
        ),
    ] = BINANCE_URL

    # storage
    database_url: Annotated[SecretStr, Field(description="Postgres of accounts and forecasts")] = SecretStr(
        "postgresql://make_us_rich:development-only@127.0.0.1:25432/make_us_rich"
    )
    s3_endpoint_url: Annotated[str, Field(description="S3 or MinIO endpoint")] = "http://127.0.0.1:28333"
    s3_access_key: Annotated[SecretStr, Field(description="S3 access key")] = SecretStr(DEVELOPMENT_SECRET)
    s3_secret_key: Annotated[SecretStr, Field(description="S3 secret key")] = SecretStr(DEVELOPMENT_SECRET)
    s3_region: Annotated[str, Field(description="region of the buckets; most stores but AWS ignore it")] = "us-east-1"
    candles_bucket: Annotated[str, Field(description="bucket of candles and job results")] = "candles"
    mlflow_bucket: Annotated[str, Field(description="bucket of MLflow's artifacts")] = "mlflow"
    mlflow_url: Annotated[str, Field(description="MLflow tracking server")] = "http://127.0.0.1:25000"
    mlflow_user: Annotated[str, Field(description="log-in of the tracking server")] = "make_us_rich"
    mlflow_password: Annotated[
        SecretStr, Field(description="its password; the tracking server is started with the same")
    ] = SecretStr(DEVELOPMENT_SECRET)

    # compute
    ray_url: Annotated[str, Field(description="Ray dashboard: jobs and Serve configuration")] = "http://127.0.0.1:28265"
    ray_token: Annotated[SecretStr, Field(description="Ray's authentication token")] = SecretStr("")
    train_workers: Annotated[int, Field(ge=1, description="Ray Train workers of a training job, at most")] = 2
    gpus_per_worker: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="share of a GPU for each of them, if the Ray cluster has GPUs free or can start a node with "
            "one; never more workers than GPUs; 0 trains on CPUs",
        ),
    ] = 1.0
    batched_training: Annotated[
        bool,
        Field(description="experimental: a worker with a GPU fine-tunes up to 32 pairs as one batch, not one by one"),
    ] = False

    foundation_pairs: Annotated[
        int,
        Field(
            ge=1,
            description="pairs that the model of all pairs learns from, a draw of them where there are more; "
            "a worker needs about 5 MB for each",
        ),
    ] = 100

    # serving and its readers
    cache_folder: Annotated[
        str, Field(description="where a replica keeps its last good model for a restart without registry")
    ] = "~/.cache/make-us-rich"
    api_url: Annotated[str, Field(description="HTTP API, as its callers reach it")] = "http://127.0.0.1:28000"
    public_api_url: Annotated[
        str, Field(description="HTTP API as a user's own machine reaches it, for the snippets; empty: as api_url")
    ] = ""
    public_mlflow_url: Annotated[
        str, Field(description="MLflow as a user's own browser reaches it, for links; empty: as mlflow_url")
    ] = ""
    dashboard_url: Annotated[
        str, Field(description="the dashboard, as its users reach it, for links that set a password")
    ] = "http://127.0.0.1:28050"
    trusted_proxies: Annotated[
        int,
        Field(
            ge=0,
            le=5,
            description="reverse proxies in front of the dashboard; their X-Forwarded-* headers are believed",
        ),
    ] = 0
    airflow_url: Annotated[str, Field(description="Airflow, as its callers reach it")] = "http://127.0.0.1:28080"
    public_airflow_url: Annotated[
        str, Field(description="Airflow as a person's browser reaches it, for links; empty: as airflow_url")
    ] = ""
    airflow_user: Annotated[str, Field(description="who starts runs by `mkrich train` or the admin page")] = "admin"
    airflow_password: Annotated[SecretStr, Field(description="password of that user")] = SecretStr("")
    dags_paused: Annotated[
        bool, Field(description="the DAGs of a new installation wait until a person unpauses them")
    ] = False
    service_token: Annotated[SecretStr, Field(description="admin API token of the pipeline")] = SecretStr("")
    dashboard_token: Annotated[
        SecretStr, Field(description="API token of the dashboard: reads, and lets the service swap models")
    ] = SecretStr("")
    gateway_replicas: Annotated[int, Field(ge=1, description="processes in front of all pairs")] = 1
    ongoing_calls_a_replica: Annotated[
        float, Field(gt=0, description="calls at once that one process of a pair takes before it gets another")
    ] = 16
    replica_cpus: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="share of a CPU that Ray counts for each serving process, so that its autoscaler adds nodes; "
            "0 on one machine, where serving must not keep training from its CPUs",
        ),
    ] = 0.1
    idle_replica_s: Annotated[float, Field(ge=0, description="how long a pair's process is idle before it stops")] = 600
    loaded_models: Annotated[
        int, Field(ge=1, description="models that a process of pooled pairs keeps loaded, about 2 MiB each")
    ] = 64
    calls_per_minute: Annotated[
        int, Field(ge=1, description="API calls a member may make a minute, over each gateway replica")
    ] = 600
    cors_origins: Annotated[
        tuple[str, ...], NoDecode, Field(description="web origins that may call the API, comma separated")
    ] = ()

    housekeeping_dry_run: Annotated[
        bool, Field(description="scheduled housekeeping only lists what it would delete")
    ] = True
    keep_forecast_days: Annotated[int, Field(ge=60, description="days that served forecasts stay in the database")] = (
        400
    )
    keep_score_days: Annotated[
        int, Field(ge=1, description="days that the daily scores of served forecasts stay in the database")
    ] = 800
    keep_audit_days: Annotated[int, Field(ge=30, description="days that entries of the audit log stay")] = 400

    # alerts
    discord_webhook_url: Annotated[SecretStr, Field(description="where failures are posted; empty posts nothing")] = (
        SecretStr("")
    )

    @property
    def airflow_link_url(self) -> str:
        """Airflow for links that a person opens in a browser, without a slash at its end."""
        return (self.public_airflow_url or self.airflow_url).rstrip("/")

    @property
    def mlflow_link_url(self) -> str:
        """MLflow for links that a person opens in a browser, without a slash at its end."""
        return (self.public_mlflow_url or self.mlflow_url).rstrip("/")

    @field_validator("pairs", "pooled_pairs", "cors_origins", mode="before")
    @classmethod
    def _split_at_commas(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("pairs")
    @classmethod
    def _at_least_one_pair(cls, value: tuple[Pair, ...]) -> tuple[Pair, ...]:
        if not value:
            raise ValueError("name at least one pair, such as btc_usdt")
        return value

    @field_validator("pooled_pairs")
    @classmethod
    def _pooled_pairs_are_pairs(cls, value: tuple[Pair, ...], info: ValidationInfo) -> tuple[Pair, ...]:
        unknown = sorted(set(value) - set(info.data.get("pairs", value)))
        if unknown:
            raise ValueError(f"{', '.join(unknown)} is not among MUR_PAIRS: add it there too")
        return value

    @field_validator("interval", mode="before")
    @classmethod
    def _interval_is_trained(cls, value: str) -> Interval:
        try:
            return Interval.parse_trained(value)
        except InputError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _no_weak_secret_in_production(self) -> Settings:
        if self.environment == "production":
            for name in type(self).model_fields:
                value = getattr(self, name)
                if isinstance(value, SecretStr) and (fault := secret_fault(value.get_secret_value())):
                    raise ValueError(f"MUR_{name.upper()} {fault}: set a long random one")
        return self


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The process's settings, read at the first call. Raises SettingsError naming the variable at fault."""
    return read_settings()


def read_settings() -> Settings:
    """The settings of the environment as it is now. Raises SettingsError naming the variable at fault."""
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None


def _explain(error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        name = "MUR_" + str(item["loc"][0]).upper() if item["loc"] else "settings"
        lines.append(f"{name}: {item['msg']}")
    return "; ".join(lines)
