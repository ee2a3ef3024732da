"""The network of the first version (2022), which forecasts the price level of the next close: for comparison."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from make_us_rich.core.distribution import DEFAULT_TAIL
from make_us_rich.documents import QUANTILE_LEVELS
from make_us_rich.forecasting.features import CLOSE, HOUR_OF_WEEK, FeatureLayout
from make_us_rich.forecasting.networks import Network, column_quantiles
from make_us_rich.forecasting.samples import Samples


class LevelMse(Network):
    """The model of the first version (2022): an LSTM trained on the mean squared error of the scaled close.

    Unlike the original it is descaled correctly, and the quantiles of recent residuals make its point forecast a
    distribution that can be scored like the others.
    """

    _LAYERS = 2
    # One horizon: the next close.
    low: Tensor  # min-max scaling of the inputs
    height: Tensor
    calibration: Tensor  # quantiles of the residuals

    def __init__(self, layout: FeatureLayout, hidden: int, length: int) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(HOUR_OF_WEEK, hidden, num_layers=self._LAYERS, batch_first=True)
        self.head = nn.Linear(hidden, 1)
        self.register_buffer("low", torch.zeros(HOUR_OF_WEEK))
        self.register_buffer("height", torch.ones(HOUR_OF_WEEK))
        self.register_buffer("calibration", torch.zeros(len(QUANTILE_LEVELS)))

    def fit_scaling(self, samples: Samples) -> None:
        self.low = samples.sequence.amin(dim=(0, 1))
        self.height = (samples.sequence.amax(dim=(0, 1)) - self.low).clamp_min(1e-12)

    def adapt_to_pair(self, samples: Samples) -> None:
        """Fit all scaling anew: the price level of one pair says nothing about another's."""
        self.fit_scaling(samples)

    def _level(self, sequence: Tensor) -> Tensor:
        states, _ = self.recurrent((sequence - self.low) / self.height)
        level: Tensor = self.head(states[:, -1])[:, 0]
        return level

    def loss(self, sequence: Tensor, static: Tensor, target: Tensor) -> Tensor:
        next_close = static[:, 0] * target[:, 0].exp()
        return mse_loss(self._level(sequence), (next_close - self.low[CLOSE]) / self.height[CLOSE])

    def _log_return(self, sequence: Tensor, static: Tensor) -> Tensor:
        price = self.low[CLOSE] + self._level(sequence) * self.height[CLOSE]
        # the forecast level may be no price at all: limit it to between a tenth and ten times the last close
        ratio = (price / static[:, 0]).clamp(0.1, 10.0)
        return ratio.log().unsqueeze(-1)

    def calibrate(self, samples: Samples) -> None:
        with torch.no_grad():
            residuals = samples.target[:, 0] - self._log_return(samples.sequence, samples.static)[:, 0]
            self.calibration = column_quantiles(residuals)

    def forward(self, sequence: Tensor, static: Tensor) -> Tensor:
        return (self._log_return(sequence, static) + self.calibration).unsqueeze(1)

    def tails(self) -> Tensor:
        return torch.tensor([DEFAULT_TAIL])
