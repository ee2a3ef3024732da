"""The configuration of training."""

from __future__ import annotations

from dataclasses import dataclass

from make_us_rich.market.candles import MAX_BRIDGED


@dataclass(frozen=True)
class TrainingConfig:
    """Lengths are in candles. Fine-tuning uses the fine_tune_* values, the foundation model the foundation_* ones."""

    architecture: str = "lstm"
    length: int = 24
    hidden: int = 64
    epochs: int = 6
    learning_rate: float = 2e-3
    fine_tune_epochs: int = 2
    fine_tune_learning_rate: float = 3e-4
    foundation_epochs: int = 2
    foundation_learning_rate: float = 4e-3
    foundation_views: int = 32  # at most so often does training see one hour, over all pairs and epochs
    batch: int = 256
    weight_decay: float = 0.1
    training: int = 8760  # at most; includes validation
    validation: int = 672
    holdout: int = 672
    level: int = 2016  # newest samples that fine-tuning adapts the level of volatility to
    calibration: int = 4032  # newest samples that fine-tuning calibrates on
    max_bridged: int = MAX_BRIDGED
    seed: int = 0
