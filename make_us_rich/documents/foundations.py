"""The model card of a foundation that ships with the package."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.documents.forecasts import Document


class BaselineSkill(Document):
    """The fraction of pinball loss saved against a baseline, its Diebold-Mariano t, and the share of windows won."""

    baseline: str
    skill: float
    t: float
    won: float


class FoundationScore(Document):
    """How the model forecast a group of pairs at one horizon, without fine-tuning, after its as_of."""

    learned: Annotated[bool, Field(description="the model learned from the earlier candles of these pairs")]
    pairs: tuple[Pair, ...]
    windows: Annotated[int, Field(description="pair-windows that the means are over")]
    horizon: int
    skills: tuple[BaselineSkill, ...]
    coverage_80: float


class FoundationCard(Document):
    """What the model learned from, how to make it again, and how well it forecasts.

    tags: of its version in the registry. params and metrics: of its training, as they are logged in MLflow; these
    metrics are of the four weeks before as_of_ms, which it was not trained on.
    """

    interval: Interval
    as_of_ms: Annotated[int, Field(description="the model has seen candles closed at or before this")]
    market: str
    architecture: str
    pairs: Annotated[tuple[Pair, ...], Field(description="those that it learned from")]
    candles_from_ms: Annotated[int, Field(description="open of the first candle whose close it was trained on")]
    command: str
    digest: Annotated[str, Field(description="first 16 hexadecimal digits of the SHA-256 of weights and graph")]
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    windows_from_ms: tuple[int, ...]
    windows_until_ms: int
    scores: tuple[FoundationScore, ...]
