"""The documents of the HTTP API that no other process reads; the shared ones are in make_us_rich/documents/."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from make_us_rich.core.errors import BadCandles
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair, Series
from make_us_rich.core.times import LATEST_MS, current_ms
from make_us_rich.documents import CandleColumns, Forecast, NextClose, PastForecast
from make_us_rich.forecasting.onnx_model import hour_of_week
from make_us_rich.market.candles import Candles as MarketCandles
from make_us_rich.market.window import MOST_WINDOW_CANDLES, window_candles
from serve_app.api.numbers import DECIMAL

ModelChoice = Literal["champion", "previous", "foundation", "naive", "ewma"]
MODEL_CHOICES = (
    "`champion` is what serves; to compare with it: `previous`, the champion before; `foundation`, the model of all "
    "pairs; `naive`, the random walk with the quantiles of the last weeks' returns; `ewma`, the same scaled by an "
    "exponentially weighted volatility"
)

_PRICES = ("open", "high", "low", "close")

Price = Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)]
PriceInQuery = Annotated[Price, DECIMAL]
Volume = Annotated[float, Field(ge=0, le=1e18, allow_inf_nan=False)]
_EARLY_MS = 5000  # the caller's clock may be ahead of ours
_HOUR_TOLERANCE = 1e-3
_Rows = Field(min_length=1, max_length=MOST_WINDOW_CANDLES)


def respond(document: BaseModel, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a document as the answer. FastAPI would validate it once more on its way out."""
    return Response(document.model_dump_json(), status, headers, media_type="application/json")


class Candles(CandleColumns):
    """Closed candles as columns of equal length, oldest first."""


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


class Prediction(NextClose):
    """The next close, with the two fields that version 1 answered: `prediction` and `data`."""

    prediction: Annotated[float, Field(description="the median, q50, in the quote currency")]
    data: FirstVersionCandles


class Missing(BaseModel):
    pair: Pair
    detail: str


class Forecasts(BaseModel):
    forecasts: list[Forecast]
    missing: Annotated[list[Missing], Field(description="pairs asked for that cannot be answered now, and why")]


class History(BaseModel):
    """Newest first."""

    pair: Pair
    interval: str
    market: str
    forecasts: list[PastForecast]


class ServedPair(BaseModel):
    pair: Pair
    interval: str


class Pairs(BaseModel):
    pairs: list[ServedPair]


class ModelsNumber(BaseModel):
    message: str
    models: Annotated[list[Pair], Field(description="the served pairs")]
    number_of_running_models: int


class Health(BaseModel):
    status: str


class UpdatedDate(BaseModel):
    as_of_ms: Annotated[dict[str, int | None], Field(description="newest close each application now knows")]


class OwnColumns(BaseModel):
    """Candles as GET /v1/candles gives them: columns of equal length, oldest first, closed, without a gap."""

    model_config = ConfigDict(extra="forbid", strict=True)

    pair: Annotated[str | None, Field(description="checked when given, so that an answer can be sent back")] = None
    interval: Annotated[str | None, Field(description="checked when given")] = None
    market: Annotated[str | None, Field(description="not used: the forecast's market is `own`")] = None
    simulated: Annotated[bool | None, Field(description="not used")] = None
    hour_of_week: Annotated[
        list[float] | None,
        Field(description="checked when given: the model takes it from the times", max_length=MOST_WINDOW_CANDLES),
    ] = None
    open_time_ms: Annotated[list[Annotated[int, Field(ge=0, le=LATEST_MS)]], _Rows]
    open: Annotated[list[Price], _Rows]
    high: Annotated[list[Price], _Rows]
    low: Annotated[list[Price], _Rows]
    close: Annotated[list[Price], _Rows]
    volume: Annotated[list[Volume], _Rows]

    def candles(self, series: Series, field: str) -> MarketCandles:
        """Return them as candles of this series. `field`: their name in the request's body.

        Raises BadCandles naming the column, such as `candles.close`, and the first wrong row.
        """
        for name, given, due in (("pair", self.pair, series.pair), ("interval", self.interval, series.interval)):
            if given not in (None, due):
                raise BadCandles(f"{field} are of {given[:40]!r}, not of {due}", field=f"{field}.{name}")
        rows, most = len(self.open_time_ms), window_candles(series.interval)
        if rows > most:
            detail = f"{field} have {rows} rows of {series.interval}: send the newest, at most {most}"
            raise BadCandles(detail, field=f"{field}.open_time_ms")
        for name in (*_PRICES, "volume", "hour_of_week"):
            length = len(column) if (column := getattr(self, name)) is not None else rows
            if length != rows:
                raise BadCandles(
                    f"{name} has {length} rows, open_time_ms {rows}: columns must have equal length",
                    field=f"{field}.{name}",
                )
        values = {name: np.array(getattr(self, name), dtype=np.float64) for name in (*_PRICES, "volume")}
        candles = MarketCandles(np.array(self.open_time_ms, dtype=np.int64), **values)
        _check_times(candles, self.hour_of_week, series.interval, field)
        _check_values(candles, field)
        return candles


class OwnCandles(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    candles: OwnColumns
    reference: Annotated[
        OwnColumns | None, Field(description="btc_usdt's candles of the same times; the market's when absent")
    ] = None


def _check_times(candles: MarketCandles, hours: list[float] | None, interval: Interval, field: str) -> None:
    step_ms = interval.ms
    times = candles.open_time_ms
    name = f"{field}.open_time_ms"
    _reject(times % step_ms != 0, f"does not open on the {interval} grid", name)
    gaps = np.diff(times, prepend=times[:1] - step_ms) != step_ms
    _reject(gaps, f"does not open one interval ({step_ms} ms) after the row before it", name)
    latest_ms = current_ms() + _EARLY_MS
    _reject(times + step_ms > latest_ms, "has not closed: are the times UTC, in milliseconds?", name)
    if hours is not None:
        given, due = np.array(hours), hour_of_week(times)
        wrong = ~(np.abs(given - due) < _HOUR_TOLERANCE)
        row = int(wrong.argmax())
        what = f"is {given[row]:g}, and its time is {due[row]:g} hours after Monday 00:00 UTC: leave the column out"
        _reject(wrong, what, f"{field}.hour_of_week")


def _check_values(candles: MarketCandles, field: str) -> None:
    for name in _PRICES:
        _reject(getattr(candles, name) <= 0, "is not above 0", f"{field}.{name}")
    _reject(candles.volume < 0, "is below 0", f"{field}.volume")
    _reject(candles.high < np.maximum(candles.open, candles.close), "is below open or close", f"{field}.high")
    _reject(candles.low > np.minimum(candles.open, candles.close), "is above open or close", f"{field}.low")


def _reject(wrong: NDArray[np.bool_], what: str, field: str) -> None:
    """Raises BadCandles that names the first row for which `wrong` is true."""
    if wrong.any():
        raise BadCandles(f"{field}: row {int(wrong.argmax())} {what}", field=field)
