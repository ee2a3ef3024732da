"""A dialog that asks before an action that cannot be undone, or that others notice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dash_mantine_components as dmc
from dash.development.base_component import Component

from dash_app.components.layout import aria_label


def confirmation(name: str, title: str, text: str = "", *, action: str = "", colour: str = "red") -> Component:
    """Return the dialog. Its buttons close it; `name`-yes, which `action` labels, also runs the action.

    `text` is in `name`-text, so that a callback can fill it in.
    """
    closes: Mapping[str, Any] = {"data-closes": name}
    return dmc.Modal(
        dmc.Stack(
            [
                dmc.Text(text, id=f"{name}-text"),
                dmc.Group(
                    [
                        dmc.Button("Cancel", id=f"{name}-no", variant="default", **closes),
                        dmc.Button(action, id=f"{name}-yes", color=colour, **closes),
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


def opens(name: str) -> Mapping[str, Any]:
    """Return the keyword argument of a button that shows a dialog: see assets/dialogs.js."""
    return {"data-opens": name}
