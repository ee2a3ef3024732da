"""Tells people that a promoted model does not serve."""

from __future__ import annotations

import threading

from make_us_rich.core.settings import Settings
from make_us_rich.registry.client import ModelVersion
from serve_app.replica.model_cache import ModelKey

_told: set[ModelKey] = set()


def tell_once(key: ModelKey, pair: str, why: str, serving: ModelVersion | None, settings: Settings) -> None:
    """One message a version and process, in the background: many pairs may refuse the same model of all pairs."""
    if key in _told:
        return
    from make_us_rich.operations import alerts  # 0.2 s that a replica which wakes need not wait for

    _told.add(key)
    goes_on = (
        f"Version {serving.version} of {serving.name} serves on."
        if serving
        else "Nothing serves the pair until the next model."
    )
    alert = alerts.Alert(
        title=f"{key.name}: version {key.version} is refused",
        text=f"{pair} was to be forecast by it, and it failed its checks: {why}\n{goes_on}",
        fields={"pair": pair, "run": key.run_id},
        link=f"{settings.mlflow_link_url}/#/models/{key.name}/versions/{key.version}",
    )
    threading.Thread(target=alerts.post, args=(alert, settings), daemon=True).start()
