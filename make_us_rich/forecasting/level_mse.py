"""The 2022 original's model, to compare with: an LSTM that predicts the min-max scaled close and minds squared error.

Descaled correctly here, and given the newest residuals' quantiles, so that it can be scored beside the others.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from make_us_rich.documents import QUANTILE_LEVELS
from make_us_rich.forecasting.features import CLOSE, HOUR_OF_WEEK
from make_us_rich.forecasting.networks import Network
from make_us_rich.forecasting.samples import Samples

_LAYERS = 2


def level_features(candles: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Open, high, low, close and volume as they are, and the last close. No warm-up."""
    return candles[..., :HOUR_OF_WEEK], candles[..., CLOSE : CLOSE + 1] + 0 * reference[..., CLOSE : CLOSE + 1]


class LevelMse(Network):
    low: Tensor
    height: Tensor
    calibration: Tensor

    def __init__(self, hidden: int, length: int) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(HOUR_OF_WEEK, hidden, num_layers=_LAYERS, batch_first=True)
        self.head = nn.Linear(hidden, 1)
        self.register_buffer("low", torch.zeros(HOUR_OF_WEEK))
        self.register_buffer("height", torch.ones(HOUR_OF_WEEK))
        self.register_buffer("calibration", torch.zeros(len(QUANTILE_LEVELS)))

    def fit_scaling(self, rows: Samples) -> None:
        self.low = rows.sequence.amin(dim=(0, 1))
        self.height = (rows.sequence.amax(dim=(0, 1)) - self.low).clamp_min(1e-12)

    def adapt_to_pair(self, rows: Samples) -> None:
        """Levels of one pair mean nothing for another: the scaling is always the pair's own."""
        self.fit_scaling(rows)

    def _level(self, sequence: Tensor) -> Tensor:
        states, _ = self.recurrent((sequence - self.low) / self.height)
        level: Tensor = self.head(states[:, -1])[:, 0]
        return level

    def loss(self, sequence: Tensor, static: Tensor, target: Tensor) -> Tensor:
        next_close = static[:, 0] * target.exp()
        return mse_loss(self._level(sequence), (next_close - self.low[CLOSE]) / self.height[CLOSE])

    def _log_return(self, sequence: Tensor, static: Tensor) -> Tensor:
        price = self.low[CLOSE] + self._level(sequence) * self.height[CLOSE]
        # a level is not bound to be a price: a tenth and ten times the last close are as far as it may go
        ratio = (price / static[:, 0]).clamp(0.1, 10.0)
        return ratio.log().unsqueeze(-1)

    def calibrate(self, rows: Samples) -> None:
        with torch.no_grad():
            misses = rows.target - self._log_return(rows.sequence, rows.static)[:, 0]
            self.calibration = torch.quantile(misses, torch.tensor(QUANTILE_LEVELS, device=misses.device))

    def forward(self, sequence: Tensor, static: Tensor) -> Tensor:
        return self._log_return(sequence, static) + self.calibration
