"""Messages of a page: results and refusals of an action, empty states, and services that are down."""

from __future__ import annotations

import dash_mantine_components as dmc
from dash.development.base_component import Component

from dash_app.components.formatting import as_sentence


def success(*content: Component | str) -> dmc.Alert:
    return dmc.Alert(list(content), color="teal", variant="light")


def selection_missing(subject: str) -> dmc.Alert:
    """Ask to select a row of a table first."""
    return dmc.Alert(f"Select {subject} first.", color="orange", variant="light")


def refusal(error: Exception) -> dmc.Alert:
    return dmc.Alert(as_sentence(error), color="red", variant="light")


def shown_once(title: str, text: str, *, text_id: str) -> dmc.Alert:
    """Show a token or a link with a button that copies it."""
    return dmc.Alert(
        dmc.Group(
            [
                dmc.Code(text, id=text_id, style={"wordBreak": "break-all"}),
                dmc.CopyButton(value=text, children="Copy", copiedChildren="Copied"),
            ]
        ),
        title=title,
        color="teal",
        variant="light",
    )


def service_down(reason: str) -> dmc.Alert:
    return dmc.Alert(
        [
            dmc.Text("Forecasts are unavailable. This page retries automatically."),
            dmc.Text(reason, size="sm", c="dimmed", mt=4),
        ],
        title="Forecast service unavailable",
        color="orange",
        variant="light",
    )


def service_refused(reason: str) -> dmc.Alert:
    return dmc.Alert(reason, title="The forecast service refused the request", color="red", variant="light")


def no_forecast_yet() -> dmc.Alert:
    return dmc.Alert(
        "The first training run has not finished. Training runs every hour; a pair appears here once it is served.",
        title="No forecast yet",
        color="blue",
        variant="light",
    )


def registry_down(reason: str) -> dmc.Alert:
    return dmc.Alert(reason, title="Model registry unavailable", color="orange", variant="light")


def no_model_yet() -> dmc.Alert:
    return dmc.Alert(
        "The first training run of this pair has not finished. Its model versions will appear here.",
        title="No model yet",
        color="blue",
        variant="light",
    )


def page_not_found() -> Component:
    return _dead_end("Page not found", "Check the address.")


def for_admins() -> Component:
    return _dead_end("This page is for admins", "Ask an admin to change your role.")


def _dead_end(title: str, text: str) -> Component:
    content = [
        dmc.Title(title, order=1, size="h2"),
        dmc.Text(text, c="dimmed"),
        dmc.Anchor("Go to the forecasts", href="/"),
    ]
    return dmc.Stack(content, gap="xs", py="xl")
