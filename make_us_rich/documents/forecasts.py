"""Forecasts, their models and candles, as replicas, the API, the client and the dashboard pass them on."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from make_us_rich.core.errors import InputError
from make_us_rich.core.pair import Pair
from make_us_rich.core.quantile_levels import QUANTILE_LEVELS

QUANTILE_NAMES = tuple(f"q{round(level * 100):02d}" for level in QUANTILE_LEVELS)

HORIZONS = 24
"""Candles ahead that a model forecasts. `level_mse` and older graphs forecast one."""

HORIZON_GRID = (1, 2, 3, 4, 6, 8, 12, 18, 24)
"""The horizons that networks forecast directly; those between are interpolated. Scores and comparisons are means over
them, each with the same weight."""

HORIZONS_WITH_PROBABILITY_UP = 4
"""Candles ahead up to which the probability of a rise beats the share of past rises, as measured in
docs/explanation/forecasting.md."""

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
    def of(cls, prices: Iterable[float]) -> Self:
        """Name the prices [7] by their quantile levels."""
        return cls(**dict(zip(QUANTILE_NAMES, prices, strict=True)))

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
    as_of_ms: Annotated[int, Field(description="the model was trained on candles closed at or before this")]
    architecture: str
    skill_vs_naive: Annotated[float | None, Field(description="fraction of pinball loss saved against the random walk")]
    skill_margin: Annotated[
        float | None, Field(description="the 95 % interval of skill_vs_naive reaches so far to either side")
    ]
    coverage_80: Annotated[float | None, Field(description="share of held-out closes inside q10..q90")]
    age_hours: Annotated[float, Field(description="hours since as_of_ms")]
    shipped: Annotated[
        bool, Field(description="the foundation that came with the package: no candle of this installation trained it")
    ] = False
    adapted_ms: Annotated[
        int | None,
        Field(description="a foundation's volatility and calibration were adapted to this pair as of then; else null"),
    ] = None


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


class NamedVersion(Document):
    """A version of a registered model."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"version {self.version} of {self.name}"


class Flags(Document):
    stale: Annotated[bool, Field(description="a newer candle or model exists that could not be fetched")]
    simulated: Annotated[bool, Field(description="prices are made up, by the replay exchange's simulation")]
    expired: Annotated[bool, Field(description="the model is older than it should ever be")]
    foundation: Annotated[
        bool, Field(description="by the model of all pairs, because this one has none of its own yet")
    ]
    bridged: Annotated[
        bool,
        Field(
            description="the exchange lacks candles that the forecast needs, in a gap or before the pair's first one; "
            "candles of the same times of day stand in for them"
        ),
    ] = False


class Tail(Document):
    """How the distribution goes on below q05 and above q95: see make_us_rich/core/distribution.py."""

    scale: Annotated[float, Field(description="in units of the distance from the median to q05 or q95, in log prices")]
    shape: Annotated[float, Field(description="0 is an exponential tail, above 0 a heavier one")]


class HorizonForecast(Document):
    """The close `horizon` candles after `as_of_ms`, as a distribution. Figures that were never measured are None."""

    horizon: Annotated[int, Field(description="candles ahead: 1 is the next close")]
    target_close_ms: Annotated[int, Field(description="the moment whose price is forecast")]
    quantiles: Quantiles
    tail: Tail
    probability_up: Annotated[
        float | None,
        Field(
            description="probability of a close above the last close; null more than "
            f"{HORIZONS_WITH_PROBABILITY_UP} candles ahead, where it says no more than the share of past rises"
        ),
    ]
    expected_move: Annotated[float, Field(description="mean absolute log return until then: 0.01 is 1 %")]
    volatility: Annotated[float, Field(description="standard deviation of the log return, per year: 0.6 is 60 %")]
    skill_vs_naive: Annotated[
        float | None, Field(description="fraction of pinball loss saved against the random walk at this horizon")
    ]
    coverage_80: Annotated[float | None, Field(description="share of held-out closes inside q10..q90 at this horizon")]

    def probability_below(self, price: float) -> float:
        """Return the probability of a close below `price`, which is above 0. Needs NumPy."""
        import numpy as np

        from make_us_rich.core import distribution

        quantiles, tail = np.log([self.quantiles.prices()]), np.array([[self.tail.scale, self.tail.shape]])
        return float(distribution.probability_below(np.log([price]), quantiles, tail)[0])


class Origin(Document):
    """The market of a forecast, and the newest that the forecast knows of it."""

    pair: Pair
    interval: str
    market: str
    as_of_ms: Annotated[int, Field(description="close of the newest candle used")]
    last_close: Annotated[float, Field(description="price at as_of_ms, quote currency")]


class NextClose(Origin):
    """The next close of a pair, as a distribution."""

    target_open_ms: Milliseconds
    target_close_ms: Annotated[int, Field(description="the moment whose price is forecast")]
    quantiles: Annotated[Quantiles, Field(description="of the next close")]
    model: Model
    flags: Flags


class Forecast(NextClose):
    """The next close of a pair, as a distribution, and the closes after it."""

    horizons: Annotated[
        tuple[HorizonForecast, ...],
        Field(description="ascending: the next close first, then the closes after it, as far as the model forecasts"),
    ]

    def at(self, horizon: int) -> HorizonForecast:
        """Return the forecast of the close `horizon` candles ahead. Raises InputError when there is none."""
        (found,) = self.only((horizon,), field="horizon").horizons
        return found

    def only(self, horizons: Collection[int], *, field: str = "horizons") -> Self:
        """Return the forecast with these of its horizons. Raises InputError, of `field`, when it lacks one."""
        present = [item.horizon for item in self.horizons]
        if lacking := sorted(set(horizons).difference(present)):
            made_by = f"version {self.model.version} of {self.model.name}"
            message = f"no forecast {_joined(lacking)} candles ahead: the one by {made_by} has {_joined(present)}"
            raise InputError(message, field=field)
        return self.model_copy(update={"horizons": tuple(item for item in self.horizons if item.horizon in horizons)})


def _joined(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


class Probability(Origin):
    """The probability of a close above or below a price, or between two prices; the other questions are None."""

    horizon: Annotated[int, Field(description="candles ahead: 1 is the next close")]
    target_close_ms: Annotated[int, Field(description="the moment whose price is asked about")]
    above: float | None
    below: float | None
    between: tuple[float, float] | None
    probability: Annotated[float, Field(description="from 0.000001 to 0.999999")]
    model: NamedVersion
    flags: Flags


class PastForecast(Document):
    """A forecast whose close is past, with the actual close."""

    horizon: Annotated[int, Field(description="candles ahead that it was made: 1 is the next close")]
    target_open_ms: Annotated[int, Field(description="open of the candle whose close was forecast")]
    target_close_ms: Annotated[int, Field(description="the moment whose price was forecast")]
    model_version: int
    foundation: Annotated[bool, Field(description="the version is of the model of all pairs")]
    backfilled: Annotated[bool, Field(description="made afterwards by a backfill, and served to no caller")] = False
    last_close: Annotated[float, Field(description="the newest price when it was made, quote currency")]
    quantiles: Quantiles
    close: Annotated[
        float | None, Field(description="the actual close; None where its candle is unknown, as weeks later")
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
