"""Whether the service is ready: every pair that was served before can be answered; a new pair may still be loading."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from make_us_rich.core.interval import HOUR_MS
from make_us_rich.core.settings import Settings
from make_us_rich.core.times import current_ms
from make_us_rich.database import forecasts
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pool import POSTGRES_UNAVAILABLE, Database
from make_us_rich.documents import PairState, Readiness
from serve_app.single_flight import SingleFlightCache

_log = logging.getLogger("ray.serve")

_TTL_S = 10.0
_WITHIN_S = 1.0  # of the calls that wait for it
_SERVED_WITHIN_MS = 7 * 24 * HOUR_MS


class ServedBefore:
    """The active series of which forecasts were recorded within a week."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._known: frozenset[str] | None = None
        self._cache: SingleFlightCache[None, frozenset[str] | None] = SingleFlightCache(_TTL_S)

    async def names(self) -> frozenset[str] | None:
        """Return their names (TTL 10 s); while Postgres is away those known so far, None when there are none yet."""
        return await self._cache.get(None, self._read)

    async def _read(self) -> frozenset[str] | None:
        try:
            async with asyncio.timeout(_WITHIN_S):
                self._known = await asyncio.to_thread(self._query)
        except (TimeoutError, *POSTGRES_UNAVAILABLE) as error:
            _log.warning("which pairs were served before cannot be read: %r", error)
        return self._known

    def _query(self) -> frozenset[str]:
        found = forecasts.served_since(
            self._database,
            market=self._settings.market,
            pairs=[tracked.pair for tracked in pairs_table.active(self._database)],
            intervals=self._settings.intervals,
            first_ms=current_ms() - _SERVED_WITHIN_MS,
        )
        return frozenset(series.name for series in found)


def readiness(states: Mapping[str, PairState], served_before: frozenset[str] | None) -> Readiness:
    """Return whether the service is ready, with the state of each pair.

    It is ready when at least one pair can be answered, and each pair that was served before. A lost pair has no state
    and gets one here. While the pairs served before are unknown, all pairs must be ready.
    """
    known = states.keys() if served_before is None else served_before
    pairs = dict(states) | {name: PairState.lost() for name in sorted(known - states.keys())}
    ready = any(state.ready for state in states.values()) and all(pairs[name].ready for name in known)
    return Readiness(ready=ready, pairs=pairs)
