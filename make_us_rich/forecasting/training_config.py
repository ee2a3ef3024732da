"""How a model is trained."""

from __future__ import annotations

from dataclasses import dataclass

from make_us_rich.market.candles import MAX_BRIDGED


@dataclass(frozen=True)
class TrainingConfig:
    """Lengths are in candles; a network that starts from a foundation model uses the fine_tune_* numbers."""

    architecture: str = "lstm"
    length: int = 24
    hidden: int = 64
    epochs: int = 6
    learning_rate: float = 2e-3
    fine_tune_epochs: int = 2
    fine_tune_learning_rate: float = 3e-4
    foundation_epochs: int = 2
    foundation_learning_rate: float = 4e-3
    foundation_views: int = 32  # times that training sees one hour at most, over all pairs and epochs
    batch: int = 256
    weight_decay: float = 0.1
    training: int = 8760  # at most, validation included
    validation: int = 672
    holdout: int = 672
    level: int = 2016  # newest rows that fine-tuning takes the pair's own level of volatility from
    calibration: int = 4032  # newest rows that fine-tuning calibrates on
    max_bridged: int = MAX_BRIDGED
    seed: int = 0
