"""What happened to a pair, as the event stream sends it."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field

from make_us_rich.core.pair import Pair
from make_us_rich.documents.forecasts import Document, Milliseconds, Origin, Quantiles

EventKind = Literal["forecast", "outcome", "model", "stale"]
EVENT_KINDS: tuple[EventKind, ...] = get_args(EventKind)


class StreamedHorizon(Document):
    """The close `horizon` candles after `as_of_ms`."""

    horizon: int
    target_close_ms: Milliseconds
    quantiles: Quantiles


class ForecastEvent(Origin):
    """A forecast was recorded."""

    made_at_ms: Milliseconds
    model_version: int
    foundation: Annotated[bool, Field(description="the version is of the model of all pairs")]
    horizons: Annotated[tuple[StreamedHorizon, ...], Field(description="ascending: the next close first")]


class OutcomeEvent(Origin):
    """The next close of a recorded forecast is known."""

    model_version: int
    foundation: bool
    target_close_ms: Milliseconds
    close: Annotated[float, Field(description="the actual close, quote currency")]
    quantiles: Annotated[Quantiles, Field(description="of the forecast of this close")]
    inside_80: Annotated[bool, Field(description="it fell between q10 and q90")]


class ModelEvent(Document):
    """A pair has another champion."""

    pair: Pair
    interval: str
    market: str
    version: int
    previous: Annotated[int | None, Field(description="the champion before; null for the first one")]


class StaleEvent(Document):
    """A pair has no forecast as of its newest close."""

    pair: Pair
    interval: str
    market: str
    as_of_ms: Annotated[int, Field(description="close that its newest forecast is as of")]


EventData = ForecastEvent | OutcomeEvent | ModelEvent | StaleEvent
