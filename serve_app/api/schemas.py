"""The API's documents, as OpenAPI shows them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from make_us_rich.core.errors import BadCandles
from make_us_rich.documents import QUANTILE_NAMES

_FORECAST_EXAMPLE: dict[str, Any] = {
    "pair": "btc_usdt",
    "interval": "1h",
    "market": "binance",
    "as_of_ms": 1_700_000_000_000 // 3_600_000 * 3_600_000,
    "last_close": 36_500.0,
    "target_open_ms": 1_700_000_000_000 // 3_600_000 * 3_600_000,
    "target_close_ms": (1_700_000_000_000 // 3_600_000 + 1) * 3_600_000,
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
        "as_of_ms": 1_700_000_000_000 // 3_600_000 * 3_600_000 - 3_600_000,
        "architecture": "lstm",
        "skill_vs_naive": 0.074,
        "skill_margin": 0.021,
        "coverage_80": 0.804,
        "age_hours": 1.05,
    },
    "flags": {"stale": False, "simulated": False, "expired": False, "foundation": False},
}

MOST_OWN_CANDLES = 1000

Milliseconds = Annotated[int, Field(description="UTC, milliseconds since 1970")]


class Quantiles(BaseModel):
    """Prices of the close at `target_close_ms`, quote currency: with probability 5 % it is below q05, and so on."""

    q05: float
    q10: float
    q25: float
    q50: float
    q75: float
    q90: float
    q95: float


assert tuple(Quantiles.model_fields) == QUANTILE_NAMES


class Model(BaseModel):
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


ModelChoice = Literal["champion", "previous", "foundation", "naive"]
MODEL_CHOICES = (
    "`champion` is what serves; beside it `previous`, the champion before; `foundation`, the model of all pairs; "
    "`naive`, the random walk with the quantiles of the last weeks' returns"
)


class Flags(BaseModel):
    stale: Annotated[bool, Field(description="a newer candle or model exists that could not be fetched")]
    simulated: Annotated[bool, Field(description="prices are made up, by the replay exchange's simulation")]
    expired: Annotated[bool, Field(description="the model is older than it should ever be")]
    foundation: Annotated[
        bool, Field(description="by the model of all pairs, because this one has none of its own yet")
    ]


class Forecast(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [_FORECAST_EXAMPLE]})

    pair: str
    interval: str
    market: str
    as_of_ms: Annotated[int, Field(description="close of the newest candle used")]
    last_close: Annotated[float, Field(description="price at as_of_ms, quote currency")]
    target_open_ms: Milliseconds
    target_close_ms: Annotated[int, Field(description="the moment whose price is forecast")]
    quantiles: Quantiles
    model: Model
    flags: Flags


class FirstVersionCandles(BaseModel):
    """Candles of the last five days as version 1 gave them: columns, each a map from row number to value.

    Its columns `quote_av`, `trades`, `tb_base_av`, `tb_quote_av` and `ignore` are not stored and left out.
    """

    timestamp: Annotated[dict[str, str], Field(description="open time, UTC, ISO 8601")]
    open: Annotated[dict[str, str], Field(description="prices and volumes are strings, as Binance writes them")]
    high: dict[str, str]
    low: dict[str, str]
    close: dict[str, str]
    volume: dict[str, str]
    close_time: Annotated[dict[str, int], Field(description="last millisecond of the candle")]


class Prediction(Forecast):
    """The forecast, with the two fields that version 1 answered: `prediction` and `data`."""

    prediction: Annotated[float, Field(description="the median, q50, in the quote currency")]
    data: FirstVersionCandles


class Missing(BaseModel):
    pair: str
    detail: str


class Forecasts(BaseModel):
    forecasts: list[Forecast]
    missing: Annotated[list[Missing], Field(description="pairs asked for that cannot be answered now, and why")]


class Candles(BaseModel):
    """Closed candles as columns of equal length, oldest first."""

    pair: str
    interval: str
    market: str
    simulated: bool
    open_time_ms: list[int]
    open: list[float]
    high: list[float]
    low: list[float]
    close: list[float]
    volume: list[float]


Price = Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)]
Volume = Annotated[float, Field(ge=0, le=1e18, allow_inf_nan=False)]
_LATEST_MS = 4_102_444_800_000  # the year 2100
_Rows = Field(min_length=1, max_length=MOST_OWN_CANDLES)


class OwnColumns(BaseModel):
    """Candles as GET /v1/candles gives them: columns of equal length, oldest first, closed, without a gap."""

    model_config = ConfigDict(extra="ignore", strict=True)

    pair: Annotated[str | None, Field(description="checked when given, so that an answer can be sent back")] = None
    interval: Annotated[str | None, Field(description="checked when given")] = None
    open_time_ms: Annotated[list[Annotated[int, Field(ge=0, le=_LATEST_MS)]], _Rows]
    open: Annotated[list[Price], _Rows]
    high: Annotated[list[Price], _Rows]
    low: Annotated[list[Price], _Rows]
    close: Annotated[list[Price], _Rows]
    volume: Annotated[list[Volume], _Rows]

    def columns(self, pair: str, interval: str, field: str) -> dict[str, list[Any]]:
        """Raises BadCandles when they say that they are another pair's or interval's."""
        for name, said, due in (("pair", self.pair, pair), ("interval", self.interval, interval)):
            if said not in (None, due):
                raise BadCandles(f"{field} are of {said[:40]!r}, not of {due}", field=f"{field}.{name}")
        return self.model_dump(exclude={"pair", "interval"})


class OwnCandles(BaseModel):
    model_config = ConfigDict(strict=True)

    candles: OwnColumns
    reference: Annotated[
        OwnColumns | None, Field(description="btc_usdt's candles of the same times; the market's when absent")
    ] = None


class PastForecast(BaseModel):
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


class History(BaseModel):
    """Newest first."""

    pair: str
    interval: str
    market: str
    forecasts: list[PastForecast]


class ServedPair(BaseModel):
    pair: str
    interval: str


class Pairs(BaseModel):
    pairs: list[ServedPair]


class Usage(BaseModel):
    limit: int
    used: int
    remaining: int
    resets_at_ms: Milliseconds


class ModelsNumber(BaseModel):
    message: str
    models: Annotated[list[str], Field(description="the served pairs")]
    number_of_running_models: int


class Health(BaseModel):
    status: str


class NamedVersion(BaseModel):
    name: str
    version: int


class PairState(BaseModel):
    ready: bool
    asleep: Annotated[bool, Field(description="nobody asked for a while: the next call starts its process")]
    serves: Annotated[NamedVersion | None, Field(description="the model that answers")]
    wanted: Annotated[NamedVersion | None, Field(description="the model that should")]
    refused: Annotated[str | None, Field(description="why the wanted one does not")]
    as_of_ms: int | None
    reason: Annotated[str | None, Field(description="what holds the pair up")]


class Readiness(BaseModel):
    ready: Annotated[bool, Field(description="there are pairs, and each can be answered")]
    pairs: dict[str, PairState]


class UpdatedModels(BaseModel):
    applications: Annotated[dict[str, int], Field(description="version that each application takes over")]
    by_foundation: Annotated[list[str], Field(description="pairs served by the model of all pairs")]
    without_champion: Annotated[list[str], Field(description="pairs that no model serves yet")]


class UpdatedDate(BaseModel):
    as_of_ms: Annotated[dict[str, int | None], Field(description="newest close each application now knows")]


class ProblemDocument(BaseModel):
    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
