"""A computed forecast, and the document that the API gives of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from make_us_rich.core.pair import Pair, foundation_name
from make_us_rich.core.settings import Settings
from make_us_rich.documents import Flags, Forecast, Quantiles
from make_us_rich.market.window import Window
from make_us_rich.registry.client import TAG_MARKET
from serve_app.replica.models import LoadedModel

# After this time without the candle of the latest close, the forecast is called stale.
_STALE_AFTER_MS = 120_000


@dataclass(frozen=True, eq=False)
class ComputedForecast:
    """A model, a window of candles, and the forecast that they give: prices [7] of the next close, quote currency.

    It is replaced as a whole and never changed, so its parts always belong together.
    """

    pair: Pair
    model: LoadedModel
    window: Window
    prices: NDArray[np.float64]

    @classmethod
    def compute(cls, pair: Pair, model: LoadedModel, window: Window) -> ComputedForecast:
        """Raises BadModel when the model's answer cannot be a forecast, NotEnoughHistory after a recent gap."""
        return cls(pair, model, window, model.session.quantiles(window.candles, window.reference))

    @property
    def last_close(self) -> float:
        return float(self.window.candles.close[-1])

    @property
    def by_foundation(self) -> bool:
        """True for the foundation model, which serves pairs without a champion of their own."""
        return self.model.version.name == foundation_name(self.window.interval)

    def document(self, settings: Settings, *, now_ms: int, model_is_late: bool = False) -> Forecast:
        """Return the forecast as the API gives it. `model_is_late`: a newer champion could not be fetched yet."""
        version = self.model.version
        model = version.describe(now_ms)
        close_ms = self.window.as_of_ms + self.window.interval.ms
        return Forecast(
            pair=self.pair,
            interval=self.window.interval,
            market=settings.market,
            as_of_ms=self.window.as_of_ms,
            last_close=self.last_close,
            target_open_ms=self.window.as_of_ms,
            target_close_ms=close_ms,
            quantiles=Quantiles.of(self.prices.tolist()),
            model=model,
            flags=Flags(
                stale=model_is_late or now_ms >= close_ms + _STALE_AFTER_MS,
                simulated="simulated" in (settings.market, version.tags.get(TAG_MARKET)),
                expired=model.age_hours > settings.model_expiry_hours,
                foundation=self.by_foundation,
            ),
        )
