"""When the forecasts of each interval are scored: the schedule of the DAG, and the time that pages announce."""

from __future__ import annotations

from make_us_rich.core.interval import HOUR_MS, Interval

# Every so many hours, so many minutes after the hour: some minutes after a close, when the exchange has its candle.
_SCORED = {Interval.M15: (2, 5), Interval.H1: (6, 20), Interval.H4: (12, 25), Interval.D1: (24, 30)}
_MINUTE_MS = HOUR_MS // 60


def scoring_cron(interval: Interval) -> str:
    """Return the schedule of score_forecasts as a cron expression, in UTC."""
    hours, minute = _SCORED[interval]
    return f"{minute} {'0' if hours == 24 else f'*/{hours}'} * * *"


def first_scoring_ms(interval: Interval, after_ms: int) -> int:
    """Return when score_forecasts runs first after a time."""
    hours, minute = _SCORED[interval]
    period_ms, offset_ms = hours * HOUR_MS, minute * _MINUTE_MS
    return (after_ms - offset_ms) // period_ms * period_ms + period_ms + offset_ms
