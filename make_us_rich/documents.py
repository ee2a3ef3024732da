"""The documents that cross a process boundary, between replicas, gateway, client, dashboard, DAGs and jobs.

Each is defined here once. They are frozen; unknown fields of a newer version are ignored. Times named `*_ms` are UTC
milliseconds since 1970; prices are in the quote currency.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair

QUANTILE_LEVELS = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95)
QUANTILE_NAMES = tuple(f"q{round(level * 100):02d}" for level in QUANTILE_LEVELS)

Milliseconds = Annotated[int, Field(description="UTC, milliseconds since 1970")]


class Document(BaseModel):
    model_config = ConfigDict(frozen=True)


class Quantiles(Document):
    """Prices of the close at `target_close_ms`, quote currency: with probability 5 % it is below q05, and so on."""

    q05: float
    q10: float
    q25: float
    q50: float
    q75: float
    q90: float
    q95: float

    @classmethod
    def of(cls, prices: Iterable[float], **others: float) -> Self:
        """Name the prices [7] by their quantile levels; `others` are the further fields of a subclass."""
        return cls(**dict(zip(QUANTILE_NAMES, prices, strict=True)), **others)

    def prices(self) -> list[float]:
        """Return the prices [7], lowest first."""
        return [self[name] for name in QUANTILE_NAMES]

    def __getitem__(self, name: str) -> float:
        """Return one quantile by its name, such as `q50`."""
        if name not in QUANTILE_NAMES:
            raise KeyError(name)
        price: float = getattr(self, name)
        return price


class Model(Document):
    """The model that made a forecast, as its readers need to know it. Figures that were never measured are None."""

    name: str
    version: int
    as_of_ms: Annotated[int, Field(description="the model has seen candles closed at or before this")]
    architecture: str
    skill_vs_naive: Annotated[float | None, Field(description="fraction of pinball loss saved against the random walk")]
    skill_margin: Annotated[
        float | None, Field(description="the 95 % interval of skill_vs_naive reaches so far to either side")
    ]
    coverage_80: Annotated[float | None, Field(description="share of held-out closes inside q10..q90")]
    age_hours: Annotated[float, Field(description="hours since as_of_ms")]


class JudgedModel(Model):
    promotion: Annotated[str | None, Field(description="why it was promoted or refused; None when undecided")]


class ModelCard(Model):
    """What serves, with its history; null where the registry could not be asked."""

    foundation: Annotated[bool, Field(description="the model of all pairs serves, because there is no own one")]
    promotion: Annotated[str | None, Field(description="why it was promoted")]
    previous: Annotated[JudgedModel | None, Field(description="the champion before, which a rollback brings back")]
    newest: Annotated[
        list[JudgedModel] | None, Field(description="the pair's newest versions, promoted and refused; newest first")
    ]


class Flags(Document):
    stale: Annotated[bool, Field(description="a newer candle or model exists that could not be fetched")]
    simulated: Annotated[bool, Field(description="prices are made up, by the replay exchange's simulation")]
    expired: Annotated[bool, Field(description="the model is older than it should ever be")]
    foundation: Annotated[
        bool, Field(description="by the model of all pairs, because this one has none of its own yet")
    ]


class Forecast(Document):
    """The next close of a pair, as a distribution."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "pair": "btc_usdt",
                    "interval": "1h",
                    "market": "binance",
                    "as_of_ms": 1_699_999_200_000,
                    "last_close": 36_500.0,
                    "target_open_ms": 1_699_999_200_000,
                    "target_close_ms": 1_700_002_800_000,
                    "quantiles": {
                        "q05": 36_210.4,
                        "q10": 36_301.9,
                        "q25": 36_409.2,
                        "q50": 36_502.8,
                        "q75": 36_597.1,
                        "q90": 36_705.5,
                        "q95": 36_790.3,
                    },
                    "model": {
                        "name": "btc_usdt_1h",
                        "version": 12,
                        "as_of_ms": 1_699_995_600_000,
                        "architecture": "lstm",
                        "skill_vs_naive": 0.074,
                        "skill_margin": 0.021,
                        "coverage_80": 0.804,
                        "age_hours": 1.05,
                    },
                    "flags": {"stale": False, "simulated": False, "expired": False, "foundation": False},
                }
            ]
        }
    )

    pair: Pair
    interval: str
    market: str
    as_of_ms: Annotated[int, Field(description="close of the newest candle used")]
    last_close: Annotated[float, Field(description="price at as_of_ms, quote currency")]
    target_open_ms: Milliseconds
    target_close_ms: Annotated[int, Field(description="the moment whose price is forecast")]
    quantiles: Quantiles
    model: Model
    flags: Flags


class PastForecast(Document):
    """A forecast of a candle that has closed."""

    target_open_ms: Milliseconds
    target_close_ms: Milliseconds
    model_version: int
    foundation: Annotated[bool, Field(description="the version is of the model of all pairs")]
    last_close: float
    quantiles: Quantiles
    close: Annotated[
        float | None, Field(description="the price that came; None where its candle is unknown, as weeks later")
    ]
    inside_80: Annotated[bool | None, Field(description="it fell between q10 and q90")]


class CandleColumns(Document):
    """Closed candles as columns of equal length, oldest first."""

    pair: Pair
    interval: str
    market: str
    simulated: bool
    open_time_ms: list[int]
    open: list[float]
    high: list[float]
    low: list[float]
    close: list[float]
    volume: list[float]


class NamedVersion(Document):
    """A version of a registered model."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"version {self.version} of {self.name}"


class PairState(Document):
    """What the replica of a pair serves, and what is in the way."""

    # No field has a default, so a reader fails on a field that was renamed.
    ready: bool
    asleep: Annotated[bool, Field(description="nobody asked for a while: the next call starts its process")]
    serves: Annotated[NamedVersion | None, Field(description="the model that answers")]
    wanted: Annotated[NamedVersion | None, Field(description="the model that should")]
    refused: Annotated[str | None, Field(description="why the wanted one does not")]
    as_of_ms: int | None
    reason: Annotated[str | None, Field(description="what holds the pair up")]

    @classmethod
    def scaled_to_zero(cls) -> PairState:
        """Describe a pair whose replica stopped because nobody asked; it can be answered."""
        return cls(ready=True, asleep=True, serves=None, wanted=None, refused=None, as_of_ms=None, reason=None)

    @classmethod
    def unreachable(cls, reason: str) -> PairState:
        """Describe a pair whose replica does not answer."""
        return cls(ready=False, asleep=False, serves=None, wanted=None, refused=None, as_of_ms=None, reason=reason)


class Readiness(Document):
    ready: Annotated[bool, Field(description="there are pairs, and each can be answered")]
    pairs: dict[str, PairState]


class ReplicaError(Document):
    """Why a replica has no answer: it cannot yet (`not-ready`), there is no such model, or the input is wrong.

    Replicas return it instead of raising, because Ray loses an exception's type between processes.
    """

    kind: Literal["not-ready", "no-model", "bad-input"]
    detail: str
    field: str | None = None


class UpdatedModels(Document):
    """What Ray Serve was told to serve."""

    applications: Annotated[dict[str, int], Field(description="version that each application takes over")]
    by_foundation: Annotated[tuple[Pair, ...], Field(description="pairs served by the model of all pairs")]
    without_champion: Annotated[tuple[Pair, ...], Field(description="pairs that no model serves yet")]


class Usage(Document):
    """Calls of one user in this month."""

    limit: int
    used: int
    remaining: int
    resets_at_ms: Milliseconds


class Comparison(Document):
    """Challenger against the champion of that moment and the naive forecast, on the same held-out candles.

    Pinball losses are means, in log return. `t` is the Diebold-Mariano statistic of the difference to the champion,
    `t_vs_naive` that to naive: above zero when the challenger is better. champion_version None: there is none;
    champion_pinball None: it is not compared by loss, as foundation models are not.
    """

    champion_version: int | None
    challenger_pinball: float
    champion_pinball: float | None
    t: float | None
    naive_pinball: float
    t_vs_naive: float


class BackfilledForecast(Quantiles):
    """The forecast that a model would have served at its as_of; a backfill stores it."""

    last_close: float


class JobResult(Document):
    """The result of a training job for one pair, stored as a JSON object in S3 and read by Airflow.

    `begun`: in training; if the job has ended, the worker died. `begun` with `metrics`: trained and being registered,
    so that a version whose worker died before it could write `trained` can still be compared. `trained`: see
    TrainedResult; `forecast` is None if candles just before `as_of_ms` are missing. `failed`: `reason` and `kind`.
    """

    model_config = ConfigDict(ser_json_inf_nan="constants")  # a metric may be NaN

    pair: Pair
    status: Literal["begun", "trained", "failed"]
    reason: str | None = None
    kind: str | None = None  # name of the error's class
    lost: int = 0  # how often its worker died
    seconds: float = 0.0
    name: str | None = None
    interval: str | None = None
    as_of_ms: int | None = None
    metrics: dict[str, float] | None = None
    comparison: Comparison | None = None
    forecast: BackfilledForecast | None = None
    version: int | None = None
    run_id: str | None = None


class TrainedResult(JobResult):
    """A `JobResult` with status `trained`: a version of a model is registered."""

    status: Literal["trained"]
    name: str
    interval: str
    as_of_ms: int
    metrics: dict[str, float]
    comparison: Comparison
    version: int
    run_id: str


class Score(Document):
    """How the served forecasts of one week did.

    n: forecasts that were judged. skill_vs_naive: fraction of pinball loss saved. t_vs_naive: Diebold-Mariano, below
    zero when worse. coverage_80: share of closes inside q10..q90. shift: population stability index by feature.
    """

    n: int
    skill_vs_naive: float
    t_vs_naive: float
    coverage_80: float
    shift: dict[str, float]
    drifted: bool
    reason: str


class OfPair(Document):
    """Any document about one pair."""

    pair: Pair


class PairScore(OfPair):
    """The score of one pair as of one time; without a score if there was no forecast to score."""

    market: str
    interval: Interval
    as_of_ms: int
    score: Score | None


class PairHealth(OfPair):
    """What the health check found about one served pair."""

    problem: str | None


class RunItem(OfPair):
    """One market of a DAG run. Only its candles are fetched if `train` is false: every model reads those of BTC."""

    interval: Interval
    as_of_ms: int
    train: bool


class TrainBatch(Document):
    """One Ray job of a DAG run: arguments of RayJobOperator."""

    entrypoint: str
    metadata: dict[str, str]
