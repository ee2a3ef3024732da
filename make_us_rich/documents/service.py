"""The state of the running service: pairs, models and quota."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from make_us_rich.documents.forecasts import Document, Milliseconds, NamedVersion


class PairState(Document):
    """What the replica of a pair serves, and why it does not serve what it should."""

    # No field has a default, so a reader fails on a field that was renamed.
    ready: bool
    asleep: Annotated[
        bool, Field(description="its process was stopped after a while without calls: the next call starts it")
    ]
    serves: Annotated[NamedVersion | None, Field(description="the model that answers")]
    wanted: Annotated[NamedVersion | None, Field(description="the model that should")]
    refused: Annotated[str | None, Field(description="why the wanted one does not")]
    as_of_ms: int | None
    reason: Annotated[str | None, Field(description="why the pair is not ready or not up to date")]

    @classmethod
    def scaled_to_zero(cls) -> PairState:
        """Describe a pair whose idle replica was stopped; the next call starts it."""
        return cls(ready=True, asleep=True, serves=None, wanted=None, refused=None, as_of_ms=None, reason=None)

    @classmethod
    def lost(cls) -> PairState:
        """Describe a pair that was served, and that Ray Serve does not know, as after a restart of Ray's head."""
        return cls.unreachable("it was served and is not loaded")

    @classmethod
    def unreachable(cls, reason: str) -> PairState:
        """Describe a pair whose replica does not answer."""
        return cls(ready=False, asleep=False, serves=None, wanted=None, refused=None, as_of_ms=None, reason=reason)


class Readiness(Document):
    ready: Annotated[bool, Field(description="there are pairs, and each that was served before can be answered")]
    pairs: dict[str, PairState]


class ReplicaError(Document):
    """Why a replica has no answer: it cannot yet (`not-ready`), there is no such model, or the input is wrong.

    Replicas return it instead of raising, because Ray loses an exception's type between processes.
    """

    kind: Literal["not-ready", "no-model", "bad-input"]
    detail: str
    field: str | None = None


class UpdatedModels(Document):
    """The models that Ray Serve was configured to serve."""

    applications: Annotated[dict[str, int], Field(description="version that each application takes over")]
    by_foundation: Annotated[tuple[str, ...], Field(description="those of them that the model of all pairs serves")]
    without_champion: Annotated[
        tuple[str, ...], Field(description="pairs and intervals that no model serves yet, such as btc_usdt_4h")
    ]


class Usage(Document):
    """Calls of one user in this month."""

    limit: int
    used: int
    remaining: int
    resets_at_ms: Milliseconds
