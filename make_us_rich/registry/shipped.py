"""The foundation that ships with the package: its files and its model card, and its registration at the first start.

    python -m benchmarks.foundation      makes the files again

It forecasts new pairs, and their training starts from it, until the installation has a foundation of its own. It is
registered through MLflow's REST API and comes with its ONNX graph, so that neither mlflow nor torch is imported.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import foundation_name
from make_us_rich.core.settings import Settings
from make_us_rich.database.pool import Database
from make_us_rich.documents import FoundationCard
from make_us_rich.registry.client import TAG_SHIPPED, Registry
from make_us_rich.registry.model_card import describe
from make_us_rich.registry.promotion import PromotionDecision, promote_shipped

FOLDER = Path(__file__).parent / "foundations"
MAKE_AGAIN = "make foundation"


@dataclass(frozen=True, eq=False)
class ShippedFoundation:
    """weights: npz, see forecasting/architectures.py. graph: ONNX, see forecasting/onnx_model.py."""

    weights: bytes
    graph: bytes
    card: FoundationCard


def digest(weights: bytes, graph: bytes) -> str:
    """Return what identifies a shipped foundation, over all versions of the package."""
    return hashlib.sha256(weights + graph).hexdigest()[:16]


def find(market: str, interval: Interval) -> ShippedFoundation | None:
    """Return the foundation for an interval; None where none ships.

    The recorded market gets none: its candles are moved to the present, so that the foundation may have seen those
    that are still to come there.
    """
    card_path = FOLDER / f"{foundation_name(interval)}.json"
    if market == "recorded" or not card_path.is_file():
        return None
    weights = card_path.with_suffix(".npz").read_bytes()
    graph = gzip.decompress(card_path.with_suffix(".onnx.gz").read_bytes())
    return ShippedFoundation(weights, graph, FoundationCard.model_validate_json(card_path.read_bytes()))


def write(foundation: ShippedFoundation) -> None:
    """Write the files that `find` reads."""
    card_path = FOLDER / f"{foundation_name(foundation.card.interval)}.json"
    FOLDER.mkdir(exist_ok=True)
    card_path.with_suffix(".npz").write_bytes(foundation.weights)
    card_path.with_suffix(".onnx.gz").write_bytes(gzip.compress(foundation.graph, mtime=0))
    card_path.write_text(foundation.card.model_dump_json(indent=1) + "\n")


def register(settings: Settings) -> dict[str, PromotionDecision]:
    """Make the shipped foundation the champion for each interval without an own one. Safe to repeat.

    Returns the decision for each registered name. Raises RegistryError, and psycopg2.Error when Postgres does not
    answer.
    """
    found = {foundation_name(interval): find(settings.market, interval) for interval in settings.intervals}
    with Registry(settings) as registry, Database.from_settings(settings) as database:
        return {
            name: promote_shipped(
                registry, database, name, foundation.card.digest, publish=partial(_publish, registry, name, foundation)
            )
            for name, foundation in found.items()
            if foundation is not None
        }


def _publish(registry: Registry, name: str, foundation: ShippedFoundation) -> int:
    card = foundation.card
    published = registry.publish(
        name,
        f"{name} that ships with the package",
        graph=foundation.graph,
        weights=foundation.weights,
        params=card.params,
        metrics=card.metrics,
        tags=card.tags | {TAG_SHIPPED: card.digest},
        description=describe(card),
    )
    return published.version
