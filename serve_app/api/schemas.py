"""The documents of the HTTP API that no other process reads; the shared ones are in make_us_rich/documents.py."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field
from starlette.responses import Response

from make_us_rich.core.pair import Pair
from make_us_rich.documents import CandleColumns, Forecast, PastForecast

ModelChoice = Literal["champion", "previous", "foundation", "naive"]
MODEL_CHOICES = (
    "`champion` is what serves; to compare with it: `previous`, the champion before; `foundation`, the model of all "
    "pairs; `naive`, the random walk with the quantiles of the last weeks' returns"
)


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


class Prediction(Forecast):
    """The forecast, with the two fields that version 1 answered: `prediction` and `data`."""

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
