"""A dialog that asks before an action that cannot be undone, or that others notice."""

from __future__ import annotations

import dash_mantine_components as dmc
from dash import Dash, Input, Output
from dash.development.base_component import Component

from dash_app.components.layout import aria_label

_CLOSE = "() => false"


def confirmation(name: str, title: str, text: str = "", *, action: str = "", colour: str = "red") -> Component:
    """Return the dialog; set `opened` of `name` to show it. The button `name`-yes runs the action, `action` labels it.

    `text` is in `name`-text, so that a callback can fill it in.
    """
    return dmc.Modal(
        dmc.Stack(
            [
                dmc.Text(text, id=f"{name}-text"),
                dmc.Group(
                    [
                        dmc.Button("Cancel", id=f"{name}-no", variant="default"),
                        dmc.Button(action, id=f"{name}-yes", color=colour),
                    ],
                    justify="flex-end",
                ),
            ]
        ),
        id=name,
        title=dmc.Text(title, fw=600, id=f"{name}-title"),
        centered=True,
        closeButtonProps=dict(aria_label("close")),  # type: ignore[arg-type]  # its type lacks ARIA attributes
    )


def register(app: Dash, name: str) -> None:
    """Close the dialog when either of its buttons is clicked."""
    for button in ("no", "yes"):
        app.clientside_callback(
            _CLOSE,
            Output(name, "opened", allow_duplicate=True),
            Input(f"{name}-{button}", "n_clicks"),
            prevent_initial_call=True,
        )


def open_by(app: Dash, name: str, button: str) -> None:
    """Show the dialog when `button` is clicked."""
    app.clientside_callback(
        "(clicks) => Boolean(clicks)",
        Output(name, "opened", allow_duplicate=True),
        Input(button, "n_clicks"),
        prevent_initial_call=True,
    )
