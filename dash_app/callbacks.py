"""The callbacks of a page: functions of module level, collected where they are defined.

`dash.callback` of Dash gives them to the first dashboard of a process alone, and tests make several.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from dash import ClientsideFunction, Dash
from dash.dependencies import DashDependency

from dash_app.security.access import admins_only
from dash_app.security.validation import validated

F = TypeVar("F", bound=Callable[..., Any])


class Callbacks:
    """Collects callbacks; `install` adds them to a dashboard. `parts`: of the page, such as the tabs of Admin."""

    def __init__(self, *parts: Callbacks) -> None:
        self._adders: list[Callable[[Dash], object]] = [part.install for part in parts]

    def __call__(self, *parts: Any, for_admins: bool = False, **options: Any) -> Callable[[F], F]:
        """Decorate a function that the server runs. `parts` and `options` are those of `dash.callback`.

        A request is answered 400 unless each value has the type of its argument. `for_admins`: 403 for others.
        """

        def collect(function: F) -> F:
            checked = validated(function)
            guarded = admins_only(checked) if for_admins else checked
            self._adders.append(lambda app: app.callback(*parts, **options)(guarded))
            return function

        return collect

    def in_browser(self, function: str, *parts: DashDependency, **options: Any) -> None:
        """Add a function of assets/, such as `forecasts.draw`: see assets/forecasts.js."""
        script = ClientsideFunction(*function.split("."))
        self._adders.append(lambda app: app.clientside_callback(script, *parts, **options))

    def install(self, app: Dash) -> None:
        for add in self._adders:
            add(app)
