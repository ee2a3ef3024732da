"""What a page says when it has nothing to show."""

from __future__ import annotations

import dash_mantine_components as dmc


def service_down(reason: str) -> dmc.Alert:
    return dmc.Alert(
        [
            dmc.Text("Forecasts are not available at the moment. The page tries again by itself."),
            dmc.Text(reason, size="sm", c="dimmed", mt=4),
        ],
        title="The forecast service does not answer",
        color="orange",
        variant="light",
    )


def service_refused(reason: str) -> dmc.Alert:
    return dmc.Alert(reason, title="The service refused", color="red", variant="light")


def nothing_served_yet() -> dmc.Alert:
    return dmc.Alert(
        "The first training run has not finished. It runs every hour; a pair appears here when its model is served.",
        title="No forecast yet",
        color="blue",
        variant="light",
    )


def registry_down(reason: str) -> dmc.Alert:
    return dmc.Alert(reason, title="The model registry does not answer", color="orange", variant="light")


def no_model_yet() -> dmc.Alert:
    return dmc.Alert(
        "The first training run of this pair has not ended. Versions appear here when it has.",
        title="No model yet",
        color="blue",
        variant="light",
    )


def not_found() -> dmc.Stack:
    return dmc.Stack(
        [
            dmc.Title("There is no such page", order=1, size="h2"),
            dmc.Text("The address may be mistyped, or the page was moved.", c="dimmed"),
            dmc.Anchor("To the forecasts", href="/"),
        ],
        gap="xs",
        py="xl",
    )


def for_admins() -> dmc.Stack:
    return dmc.Stack(
        [dmc.Title("This page is for admins", order=1, size="h2"), dmc.Anchor("To the forecasts", href="/")],
        gap="xs",
        py="xl",
    )
