"""A server of the Model Context Protocol (MCP): forecasts of the HTTP API as tools for agents.

Every answer has what was measured of the model that made it, so that an agent can state how good its forecasts are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Annotated, ParamSpec, TypeVar

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field

from make_us_rich import __version__
from make_us_rich.client import Client, ServiceUnavailable
from make_us_rich.core.errors import MakeUsRichError
from make_us_rich.core.pair import Pair
from make_us_rich.documents import HORIZONS, Document, Forecast, Model, PastForecast, Probability

_INSTRUCTIONS = (
    "Forecasts of cryptocurrency closes as probability distributions. They forecast the uncertainty of a price, hardly "
    "its direction. Prices are in the quote currency, times in milliseconds since 1970, UTC. Where `simulated` is true "
    "the prices are made up. Quote a forecast together with its `measured` figures. `forecast` and `probability` cost "
    "a call of the month each; the others are free."
)
_READS = ToolAnnotations(read_only_hint=True, idempotent_hint=True)

_PairName = Annotated[str, Field(description="base_quote in lower case, such as btc_usdt; `pairs` lists them")]
_Horizon = Annotated[int, Field(ge=1, le=HORIZONS, description="candles ahead: 1 is the next close")]
_Interval = Annotated[str | None, Field(description="of the candles, such as 1h; by default the first one")]

P = ParamSpec("P")
T = TypeVar("T")


class Measured(Document):
    """How good the forecasts of the pair's present model were on closes that it was not trained on; null if unknown."""

    skill_vs_naive: Annotated[float | None, Field(description="share of the pinball loss saved against a random walk")]
    skill_margin: Annotated[float | None, Field(description="half width of the 95 % interval of skill_vs_naive")]
    coverage_80: Annotated[float | None, Field(description="share of closes inside q10..q90; 0.8 is right")]

    @classmethod
    def of(cls, model: Model) -> Measured:
        return cls(skill_vs_naive=model.skill_vs_naive, skill_margin=model.skill_margin, coverage_80=model.coverage_80)


class MeasuredForecast(Document):
    forecast: Forecast
    measured: Measured


class MeasuredProbability(Document):
    answer: Probability
    measured: Measured


class MeasuredHistory(Document):
    forecasts: list[PastForecast]
    served: Annotated[int, Field(description="of these forecasts, those that were made before their close")]
    served_inside_80: Annotated[int, Field(description="of the served ones, those whose close was inside q10..q90")]
    measured: Measured


class Tools:
    """The tools, each of which calls the API once or twice. Raises ToolError with the API's own reason."""

    def __init__(self, api: Client) -> None:
        self._api = api

    def pairs(self, interval: _Interval = None) -> list[Pair]:
        """List the pairs that are forecast now."""
        return self._api.pairs(interval)

    def forecast(
        self, pair: _PairName, horizons: Sequence[_Horizon] = (), interval: _Interval = None
    ) -> MeasuredForecast:
        """Forecast the closes of a pair, as quantiles, up to 24 candles ahead; by default all of them."""
        found = self._api.forecast(pair, horizons=horizons, interval=interval)
        return MeasuredForecast(forecast=found, measured=Measured.of(found.model))

    def probability(
        self,
        pair: _PairName,
        above: Annotated[float | None, Field(description="a price")] = None,
        below: Annotated[float | None, Field(description="a price")] = None,
        between: Annotated[tuple[float, float] | None, Field(description="two prices, the lower one first")] = None,
        horizon: _Horizon = 1,
        interval: _Interval = None,
    ) -> MeasuredProbability:
        """Return the probability of a close above a price, below one, or between two: give exactly one of the three."""
        answer = self._api.probability(
            pair, above=above, below=below, between=between, horizon=horizon, interval=interval
        )
        return MeasuredProbability(answer=answer, measured=self._measured(pair, interval))

    def history(
        self,
        pair: _PairName,
        limit: Annotated[int, Field(ge=1, le=1000, description="how many, the newest first")] = 24,
        horizon: _Horizon = 1,
        interval: _Interval = None,
    ) -> MeasuredHistory:
        """List past forecasts of a pair with the closes that were observed, newest first."""
        found = self._api.history(pair, limit, horizon, interval)
        served = [each for each in found if not each.backfilled and each.inside_80 is not None]
        return MeasuredHistory(
            forecasts=found,
            served=len(served),
            served_inside_80=sum(bool(each.inside_80) for each in served),
            measured=self._measured(pair, interval),
        )

    def _measured(self, pair: str, interval: str | None) -> Measured:
        try:
            return Measured.of(self._api.model(pair, interval))
        except ServiceUnavailable:  # the registry is away: the answer itself is good
            return Measured(skill_vs_naive=None, skill_margin=None, coverage_80=None)


def make_server(api: Client) -> MCPServer[None]:
    """Return the server, which is run by its `run`. Tools call the API as the owner of the client's token."""
    server: MCPServer[None] = MCPServer(
        "make-us-rich", version=__version__, instructions=_INSTRUCTIONS, log_level="WARNING"
    )
    tools = Tools(api)
    for tool in (tools.pairs, tools.forecast, tools.probability, tools.history):
        server.add_tool(_with_reason(tool), annotations=_READS)
    return server


def _with_reason(tool: Callable[P, T]) -> Callable[P, T]:
    """Pass the message of our own errors on to the agent; the SDK hides that of others."""

    @wraps(tool)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return tool(*args, **kwargs)
        except MakeUsRichError as error:
            raise ToolError(str(error)) from None

    return call
