"""The settings. A process reads them once, at its edge, into a frozen object and passes it down."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from make_us_rich.core.errors import InputError, SettingsError
from make_us_rich.core.interval import TRAINING_CANDLES, Interval
from make_us_rich.core.pair import Pair
from make_us_rich.core.secret_strength import DEVELOPMENT_SECRET, secret_fault
from make_us_rich.core.setting_types import (
    BaseAddress,
    Bucket,
    Folder,
    HeaderSecret,
    HostAddress,
    Name,
    Number,
    OptionalBaseAddress,
    OptionalHostAddress,
    OptionalStreamAddress,
    Origin,
    Password,
    PostgresAddress,
    ReplicaRange,
    WebhookAddress,
    Whole,
    explain,
)

BINANCE_URL = "https://api.binance.com"
BINANCE_DATA_URL = "https://data-api.binance.vision"
"""Binance's host for public market data, which also answers where the other one refuses the location (HTTP 451).

Source: https://developers.binance.com/docs/binance-spot-api-docs/faqs/market_data_only
"""
BINANCE_STREAM_URL = "wss://data-stream.binance.vision"

_DEVELOPMENT, _NONE = SecretStr(DEVELOPMENT_SECRET), SecretStr("")


def _trained_interval(text: str) -> Interval:
    try:
        return Interval.parse_trained(text)
    except InputError as error:
        raise ValueError(str(error)) from None


class Settings(BaseSettings):
    """Each field is read from the environment variable MUR_ plus its name in capitals. Defaults suit development."""

    model_config = SettingsConfigDict(env_prefix="MUR_", frozen=True, extra="ignore")

    environment: Annotated[
        Literal["development", "production"], Field(description="`production` refuses to start with a weak secret")
    ] = "development"

    # secrets: `secret_fault` checks them in production; each component gets only those that it needs
    secret_key: Annotated[Password, Field(description="signs the dashboard's sessions")] = _DEVELOPMENT
    database_url: Annotated[PostgresAddress, Field(description="Postgres of accounts and forecasts")] = SecretStr(
        f"postgresql://make_us_rich:{DEVELOPMENT_SECRET}@127.0.0.1:25432/make_us_rich"
    )
    s3_access_key: Annotated[HeaderSecret, Field(description="S3 access key")] = _DEVELOPMENT
    s3_secret_key: Annotated[HeaderSecret, Field(description="S3 secret key")] = _DEVELOPMENT
    mlflow_password: Annotated[HeaderSecret, Field(description="password of the MLflow server and its clients")] = (
        _DEVELOPMENT
    )
    ray_token: Annotated[HeaderSecret, Field(description="Ray's authentication token")] = _NONE
    airflow_password: Annotated[Password, Field(description="password of `MUR_AIRFLOW_USER`")] = _NONE
    service_token: Annotated[HeaderSecret, Field(description="admin API token of the pipeline")] = _NONE
    dashboard_token: Annotated[
        HeaderSecret, Field(description="API token of the dashboard: reads, and lets the service swap models")
    ] = _NONE
    discord_webhook_url: Annotated[WebhookAddress, Field(description="where failures are posted; empty: nowhere")] = (
        _NONE
    )
    heartbeat_url: Annotated[
        WebhookAddress, Field(description="gets a GET after each minute in which the watchdog found no problem")
    ] = _NONE

    # what to forecast
    pairs: Annotated[
        tuple[Pair, ...], NoDecode, Field(description="first pairs of an installation, comma separated")
    ] = (Pair("btc", "usdt"), Pair("eth", "usdt"), Pair("chz", "usdt"))
    pooled_pairs: Annotated[
        tuple[Pair, ...], NoDecode, Field(description="those of `MUR_PAIRS` that share one serving process")
    ] = ()
    intervals: Annotated[
        tuple[Annotated[Interval, BeforeValidator(_trained_interval)], ...],
        NoDecode,
        Field(
            description=f"candle intervals to forecast, of {', '.join(TRAINING_CANDLES)}, comma separated; "
            "the first one is meant where none is named"
        ),
    ] = (Interval.H1,)
    history_candles: Annotated[
        Whole,
        Field(
            ge=1500,
            le=1_000_000,
            description="candles that a training run reads, at most: 10,200 hourly ones are used, 2,588 needed",
        ),
    ] = TRAINING_CANDLES[Interval.H1]
    architecture: Annotated[Name, Field(description="network architecture that is trained")] = "lstm"
    model_expiry_hours: Annotated[
        Whole, Field(ge=1, le=87_600, description="age from which a model counts as expired")
    ] = 24 * 35

    # the exchange
    market: Annotated[
        Literal["binance", "recorded", "simulated"], Field(description="source of the prices, shown with each forecast")
    ] = "binance"
    exchange_url: Annotated[
        BaseAddress,
        Field(
            description="base URL of Binance's REST API; "
            f"{BINANCE_DATA_URL} where this one refuses the country or cloud (HTTP 451)"
        ),
    ] = BINANCE_URL
    exchange_stream_url: Annotated[
        OptionalStreamAddress,
        Field(
            description="base URL of Binance's websocket, from which serving takes each candle as it closes, such as "
            f"{BINANCE_STREAM_URL}; empty: serving asks for the candle up to 4 s after the close"
        ),
    ] = ""

    # storage
    s3_endpoint_url: Annotated[HostAddress, Field(description="S3 endpoint")] = "http://127.0.0.1:28333"
    s3_region: Annotated[Name, Field(description="region of the buckets; most stores but AWS ignore it")] = "us-east-1"
    candles_bucket: Annotated[Bucket, Field(description="bucket of candles and job results")] = "candles"
    mlflow_bucket: Annotated[Bucket, Field(description="bucket of MLflow's artifacts")] = "mlflow"
    mlflow_url: Annotated[BaseAddress, Field(description="MLflow tracking server")] = "http://127.0.0.1:25000"
    mlflow_user: Annotated[Name, Field(description="user of the tracking server")] = "make_us_rich"

    # training
    ray_url: Annotated[BaseAddress, Field(description="Ray dashboard: jobs and Serve configuration")] = (
        "http://127.0.0.1:28265"
    )
    train_workers: Annotated[
        Whole, Field(ge=1, le=10_000, description="Ray Train workers of a training job, at most")
    ] = 2
    gpus_per_worker: Annotated[
        Number,
        Field(
            ge=0,
            le=1,
            description="GPUs (or share of one) of each worker, where the Ray cluster has one free or can start a node "
            "with one; 0 trains on CPUs",
        ),
    ] = 1.0
    foundation_pairs: Annotated[
        Whole,
        Field(
            ge=1,
            le=10_000,
            description="most traded pairs of the exchange that the foundation model learns from, served or not; "
            "a worker needs about 5 MB for each",
        ),
    ] = 50
    training_minutes: Annotated[
        Number,
        Field(
            ge=1,
            le=40,
            description="minutes that a run of `train_pairs` has, two thirds of its interval at most: it trains the "
            "pairs that need it most, and later runs the others; runs that begin together share them",
        ),
    ] = 30

    # orchestration
    airflow_url: Annotated[BaseAddress, Field(description="Airflow, as other components reach it")] = (
        "http://127.0.0.1:28080"
    )
    airflow_user: Annotated[Name, Field(description="user that starts runs for `mkrich train` and the admin page")] = (
        "admin"
    )
    dags_paused: Annotated[bool, Field(description="the DAGs of a new installation start paused")] = False
    housekeeping_dry_run: Annotated[
        bool, Field(description="scheduled housekeeping deletes only old logs, and lists the rest")
    ] = True
    keep_forecast_days: Annotated[
        Whole, Field(ge=60, le=36_500, description="days that forecasts stay in the database")
    ] = 400
    keep_score_days: Annotated[
        Whole, Field(ge=1, le=36_500, description="days that daily scores stay in the database")
    ] = 800
    keep_audit_days: Annotated[
        Whole, Field(ge=30, le=36_500, description="days that the audit log and the list of alerts stay")
    ] = 400

    # serving
    api_url: Annotated[HostAddress, Field(description="HTTP API, as other components reach it")] = (
        "http://127.0.0.1:28000"
    )
    cache_folder: Annotated[
        Folder, Field(description="folder of each replica's last model, for a restart while MLflow is down")
    ] = "~/.cache/make-us-rich"
    gateway_replicas: Annotated[
        ReplicaRange,
        Field(description="replicas of the gateway: a number, or least and most, such as `1-4` on a cluster"),
    ] = "1"
    ongoing_calls_a_replica: Annotated[
        Number, Field(gt=0, le=10_000, description="concurrent calls of a replica or gateway before another one starts")
    ] = 16
    replica_cpus: Annotated[
        Number,
        Field(
            ge=0,
            le=1,
            description="CPUs that Ray counts for a serving replica, so that its autoscaler adds nodes; "
            "0 on a single machine, where training needs them",
        ),
    ] = 0.1
    idle_replica_s: Annotated[
        Number, Field(ge=0, le=31_536_000, description="seconds after which an idle replica stops")
    ] = 600
    loaded_models: Annotated[
        Whole,
        Field(ge=1, le=100_000, description="models that the pooled pairs' replica keeps in memory, about 2 MiB each"),
    ] = 64
    calls_per_minute: Annotated[
        Whole, Field(ge=1, le=1_000_000, description="API calls of a member per minute, for each gateway replica")
    ] = 600
    cors_origins: Annotated[
        tuple[Origin, ...], NoDecode, Field(description="web origins that may call the API, comma separated")
    ] = ()

    # the dashboard, and addresses as a person's browser reaches them
    dashboard_url: Annotated[HostAddress, Field(description="the dashboard, for links that set a password")] = (
        "http://127.0.0.1:28050"
    )
    trusted_proxies: Annotated[
        Whole,
        Field(ge=0, le=5, description="reverse proxies before the dashboard, whose X-Forwarded-* headers are used"),
    ] = 0
    public_pages: Annotated[
        bool,
        Field(
            description="visitors without an account see the landing page, the track record and shared pictures; "
            "off: they see the log-in alone"
        ),
    ] = True
    public_api_url: Annotated[
        OptionalHostAddress, Field(description="HTTP API in code examples; empty: `MUR_API_URL`")
    ] = ""
    public_mlflow_url: Annotated[OptionalBaseAddress, Field(description="for links; empty: `MUR_MLFLOW_URL`")] = ""
    public_airflow_url: Annotated[
        OptionalBaseAddress, Field(description="Airflow in links; empty: `MUR_AIRFLOW_URL`")
    ] = ""

    def needed(self, secret: Literal["secret_key", "database_url", "s3_access_key", "s3_secret_key"]) -> str:
        """Return a secret. Raises SettingsError when it is empty, as it may be for components that do not need it."""
        value: SecretStr = getattr(self, secret)
        if not value.get_secret_value():
            raise SettingsError(f"MUR_{secret.upper()} is empty, and this component needs it: set it")
        return value.get_secret_value()

    @property
    def default_interval(self) -> Interval:
        """Return the interval that is meant where none is named."""
        return self.intervals[0]

    def forecast_interval(self, text: str | None) -> Interval:
        """Read one of the installation's intervals; the default one for None. Raises InputError."""
        if text is None:
            return self.default_interval
        if text not in self.intervals:
            known = ", ".join(self.intervals)
            raise InputError(f"candles of {text[:20]!r} are not forecast here: use {known}", field="interval")
        return Interval(text)

    def forecast_intervals(self, text: str | None) -> tuple[Interval, ...]:
        """Read one of the installation's intervals; all of them for None. Raises InputError."""
        return self.intervals if text is None else (self.forecast_interval(text),)

    def training_candles(self, interval: Interval) -> int:
        """Return how many candles before its as_of a training run reads."""
        return min(self.history_candles, TRAINING_CANDLES[interval])

    @property
    def airflow_link_url(self) -> str:
        """Return Airflow's address for links, without a slash at its end."""
        return self.public_airflow_url or self.airflow_url

    @property
    def mlflow_link_url(self) -> str:
        """Return MLflow's address for links, without a slash at its end."""
        return self.public_mlflow_url or self.mlflow_url

    @field_validator("*", mode="before")
    @classmethod
    def _strip(cls, value: object) -> object:
        """Remove what editors and mounted files leave around a value: spaces and line breaks."""
        return value.strip() if isinstance(value, str) else value

    @field_validator("pairs", "pooled_pairs", "intervals", "cors_origins", mode="before")
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

    @field_validator("intervals")
    @classmethod
    def _at_least_one_interval(cls, value: tuple[Interval, ...]) -> tuple[Interval, ...]:
        if not value:
            raise ValueError("name at least one interval, such as 1h")
        return tuple(dict.fromkeys(value))

    @model_validator(mode="after")
    def _no_weak_secret_in_production(self) -> Settings:
        if self.environment == "production":
            for name in type(self).model_fields:
                value = getattr(self, name)
                if not isinstance(value, SecretStr):
                    continue
                if fault := secret_fault(value.get_secret_value(), is_name=name == "s3_access_key"):
                    raise ValueError(f"MUR_{name.upper()} {fault}: set a long random one")
        return self


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Return the process's settings, read at the first call. Raises SettingsError naming the variable at fault."""
    return read_settings()


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from an environment, by default that of this process as it is now.

    Raises SettingsError naming the variable at fault.
    """
    given = environment or {}
    values = {name: given[key] for name in Settings.model_fields if (key := f"MUR_{name.upper()}") in given}
    try:
        return Settings(**values)  # type: ignore[arg-type]
    except ValidationError as error:
        raise SettingsError(explain(Settings, error)) from None
