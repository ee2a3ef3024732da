"""What a caller asks of a forecast: the probability of a price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pydantic import TypeAdapter, ValidationError

from make_us_rich.core.errors import InputError
from make_us_rich.documents import Forecast, HorizonForecast, NamedVersion, Probability
from serve_app.api.schemas import PriceInQuery

# The tails are fitted to some hundred closes, which say nothing of what happens more rarely than this. It also hides
# the underflow of a probability to 0, and its rounding to 1.
_SMALLEST_PROBABILITY = 1e-6
_PRICE: TypeAdapter[float] = TypeAdapter(PriceInQuery)


@dataclass(frozen=True)
class PriceQuestion:
    """Whether a close is above a price, below a price, or between two of them; the other two are None."""

    above: float | None
    below: float | None
    between: tuple[float, float] | None

    @classmethod
    def parse(cls, above: float | None, below: float | None, between: str | None) -> Self:
        """Raises InputError unless exactly one is given; `between` is such as `36000,37000`."""
        given = [
            name for name, value in (("above", above), ("below", below), ("between", between)) if value is not None
        ]
        if len(given) != 1:
            found = f"{' and '.join(given)} are given" if given else "none is given"
            message = f"ask one question, above=PRICE, below=PRICE or between=LOW,HIGH: {found}"
            raise InputError(message, field=given[-1] if given else "above")
        return cls(above, below, None if between is None else _two_prices(between))

    def answer(self, forecast: Forecast, horizon: int) -> Probability:
        """Return the probability at a horizon. Raises InputError when the model does not reach that far."""
        at_horizon = forecast.at(horizon)
        exact = self._exact(at_horizon)
        return Probability(
            pair=forecast.pair,
            interval=forecast.interval,
            market=forecast.market,
            as_of_ms=forecast.as_of_ms,
            last_close=forecast.last_close,
            horizon=horizon,
            target_close_ms=at_horizon.target_close_ms,
            above=self.above,
            below=self.below,
            between=self.between,
            probability=min(max(round(exact, 6), _SMALLEST_PROBABILITY), 1 - _SMALLEST_PROBABILITY),
            model=NamedVersion(name=forecast.model.name, version=forecast.model.version),
            flags=forecast.flags,
        )

    def _exact(self, forecast: HorizonForecast) -> float:
        if self.between is not None:
            low, high = map(forecast.probability_below, self.between)
            return high - low
        if self.above is not None:
            return 1 - forecast.probability_below(self.above)
        assert self.below is not None
        return forecast.probability_below(self.below)


def _two_prices(text: str) -> tuple[float, float]:
    try:
        low, high = map(_PRICE.validate_python, text.split(","))
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"between: {str(first['input'])[:40]!r}: {first['msg']}", field="between") from None
    except ValueError:
        raise InputError("between takes two prices: between=LOW,HIGH", field="between") from None
    if low >= high:
        raise InputError(f"between takes the lower price first: {low!r} is not below {high!r}", field="between")
    return low, high
