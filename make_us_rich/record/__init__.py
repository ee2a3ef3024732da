"""What was served and how it turned out.

A replica records each forecast; `score_forecasts` then judges it once, and all that is said of it later is computed
from that judgment. In the order in which it happens:

- schedules: when the forecasts of each interval are scored.
- outcomes: stores the actual close of each forecast at every horizon, and the losses of the baselines as of its time.
- figures: shares and skills of forecasts with outcomes, each with its uncertainty.
- drift and shift: whether a week of forecasts was worse than it should be, and whether the market had changed.
- scoring: scores the newest week, for the table `scores` and MLflow.
- track_record: the public record of a pair at one horizon.
- forecast_log: publishes each day's forecasts, in a chain of hashes.
"""
