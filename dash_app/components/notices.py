"""Messages of a page: results and refusals of an action, empty states, and services that are down."""

from __future__ import annotations

from collections.abc import Sequence

import dash_mantine_components as dmc
from dash.development.base_component import Component

from dash_app.components.formatting import as_sentence, pair_label
from dash_app.components.layout import local_time
from make_us_rich.client import ServiceRefused, ServiceUnavailable
from make_us_rich.database import pairs as pairs_table
from make_us_rich.database.pairs import TrackedPair
from make_us_rich.database.pool import Database
from make_us_rich.documents import Forecast


def success(*content: Component | str) -> Component:
    return _alert("teal", *content)


def refusal(error: Exception) -> Component:
    return _alert("red", as_sentence(error))


def service_error(error: ServiceUnavailable | ServiceRefused, *, since_ms: int | None = None) -> Component:
    """Say that the forecast service is down, or why it refused the request.

    since_ms: when it answered last, if the page still shows that answer.
    """
    refused = isinstance(error, ServiceRefused)
    title = "The forecast service refused the request" if refused else "Forecast service unavailable"
    if since_ms is None:
        if refused:
            return _alert("red", str(error), title=title)
        text: Sequence[Component | str] = ("Forecasts are unavailable. This page retries automatically.",)
    else:
        text = (
            "No new answer since ",
            local_time(since_ms),
            ": this is the last one. This page retries automatically.",
        )
    detail = dmc.Text(str(error), size="sm", c="dimmed", mt=4)
    return _alert("red" if refused else "orange", dmc.Text(list(text)), detail, title=title)


def download_failed(error: ServiceUnavailable | ServiceRefused) -> Component:
    return _alert("orange", f"{as_sentence(error)} Try again in a minute.", title="Nothing was downloaded")


def registry_down(error: Exception) -> Component:
    return _alert("orange", str(error), title="Model registry unavailable")


def not_served(pair: str, tracked: TrackedPair | None) -> Component:
    """Say why a pair has no forecast. `tracked`: its row in the table of pairs, None if there is none."""
    if tracked is None:
        title, text = f"{pair} is unknown", "This installation neither trains nor serves it. Choose another pair."
    elif tracked.active:
        title = f"{pair} has no forecast yet"
        text = "Its first training run has not finished. Training runs at every close of a candle."
    else:
        title = f"{pair} is not served"
        text = as_sentence(tracked.state) + " It is not trained until an admin changes that. Choose another pair."
    return _alert("orange", text, title=title)


def inactive(database: Database, pair: str) -> Component | None:
    """Say that a pair is parked or switched off, with the reason; None for any other."""
    tracked = next((item for item in pairs_table.tracked(database) if item.pair == pair), None)
    return None if tracked is None or tracked.active else not_served(pair_label(pair), tracked)


def no_forecast_yet(interval: str) -> Component:
    text = (
        f"The first training run has not finished. Training runs at every close of a {interval} candle; a pair appears "
        "here once it is served."
    )
    return _alert("blue", text, title="No forecast yet")


def no_model_yet() -> Component:
    text = "The first training run of this pair has not finished. Its model versions will appear here."
    return _alert("blue", text, title="No model yet")


def shown_once(title: str, text: str, *, text_id: str) -> Component:
    """Show a token or a link with a button that copies it."""
    code = dmc.Code(text, id=text_id, style={"wordBreak": "break-all"})
    button = dmc.CopyButton(value=text, children="Copy", copiedChildren="Copied")
    return _alert("teal", dmc.Group([code, button]), title=title)


def new_model(forecast: Forecast, versions: Sequence[tuple[int, bool]]) -> list[Component]:
    """Say that the model was replaced since the last close. versions: see `database.forecasts.served_versions`."""
    served = (forecast.model.version, forecast.flags.foundation)
    replaced = [version for version in versions if version != served]
    if not replaced:
        return []
    text = f"New model. {_version(served).capitalize()} replaced {_version(replaced[-1])} since the last close; "
    return [
        dmc.Alert(
            dmc.Text(f"{text}the forecast changed. The track record counts the first one.", size="sm"),
            color="blue",
            py="xs",
        )
    ]


def _version(version: tuple[int, bool]) -> str:
    number, of_foundation = version
    return f"version {number} of the foundation model" if of_foundation else f"version {number}"


def _alert(color: str, *content: Component | str, title: str | None = None) -> Component:
    return dmc.Alert(list(content), color=color, title=title, variant="light")
