"""All pairs in one table: what is expected, how sure that is, whether to believe it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dash_ag_grid as dag
import dash_mantine_components as dmc
from dash import Dash, Input, Output, dcc, no_update
from dash.development.base_component import Component

from dash_app.components import notices
from dash_app.components.formatting import age, clock, pair_label, price
from dash_app.components.grids import GRID, fitting, link, number, percent, text
from dash_app.security.callbacks import Clicks, checked
from make_us_rich.client import Client, Forecast, ServiceRefused, ServiceUnavailable
from make_us_rich.database import scores
from make_us_rich.database.scores import LatestScore

_REFRESH_MS = 30_000
_COLUMNS = [
    link("Pair", "pair", pinned="left", width=132),
    number("Last close", "last_close", shown="last_close_text", minWidth=112),
    percent("Expected", "expected", 2, headerTooltip="Middle of the forecast against the last close"),
    percent("80 % low", "low", 2, headerTooltip="One close in ten is expected below"),
    percent("80 % high", "high", 2, headerTooltip="One close in ten is expected above"),
    percent("Band", "width", 2, signed=False, headerTooltip="Width of the 80 % band"),
    percent("Skill", "skill", 1, headerTooltip="Pinball loss saved against the naive forecast, on unseen weeks"),
    percent("Held", "coverage", 0, signed=False, headerTooltip="Share of unseen closes inside the 80 % band"),
    text("Drift", "drift", headerTooltip="Whether this week's forecasts kept what the model promises"),
    text("Model age", "age", minWidth=112, comparator_field="age_hours"),
    text("Status", "status", minWidth=140, flex=2),
]


def layout() -> Component:
    return dmc.Stack(
        [
            dmc.Group(
                [
                    dmc.Title("Overview", order=1, size="h2"),
                    dmc.TextInput(
                        id="overview-search",
                        placeholder="Filter",
                        w=220,
                        debounce=200,
                        attributes={"input": {"aria-label": "filter the pairs"}},
                    ),
                ],
                justify="space-between",
            ),
            dmc.Box(id="overview-notice", children=dmc.Skeleton(h=36)),
            dag.AgGrid(
                id="overview-grid",
                columnDefs=_COLUMNS,
                getRowId="params.data.pair",
                dashGridOptions=GRID,
                style=fitting(0),
            ),
            dcc.Interval(id="overview-tick", interval=_REFRESH_MS),
        ],
        gap="md",
    )


def register(app: Dash, client: Client, database_url: str) -> None:
    @app.callback(
        Output("overview-grid", "rowData"),
        Output("overview-grid", "style"),
        Output("overview-notice", "children"),
        Input("overview-tick", "n_intervals"),
    )
    @checked
    def refresh(_: Clicks) -> tuple[Any, ...]:
        try:
            forecasts, missing = client.forecasts()
        except ServiceUnavailable as error:
            return no_update, no_update, notices.service_down(str(error))
        except ServiceRefused as error:
            return no_update, no_update, notices.service_refused(str(error))
        judged = _scores(database_url, forecasts)
        rows = [_row(forecast, judged.get(forecast.pair)) for forecast in forecasts]
        rows += [
            {"pair": pair, "label": pair_label(pair), "href": f"/?pair={pair}", "status": reason}
            for pair, reason in missing.items()
        ]
        return rows, fitting(len(rows)), _summary(forecasts, missing)

    app.clientside_callback(
        """(text, options) => ({...options, quickFilterText: text || ""})""",
        Output("overview-grid", "dashGridOptions"),
        Input("overview-search", "value"),
        Input("overview-grid", "dashGridOptions"),
        prevent_initial_call=True,
    )


def _scores(database_url: str, forecasts: Sequence[Forecast]) -> dict[str, LatestScore]:
    """Return the newest scores of the market and interval that the service speaks of, by pair."""
    if not forecasts:
        return {}
    return scores.latest(database_url, market=forecasts[0].market, interval=forecasts[0].interval)


def _row(forecast: Forecast, score: LatestScore | None) -> dict[str, Any]:
    quantiles, last, model = forecast.quantiles, forecast.last_close, forecast.model
    return {
        "pair": forecast.pair,
        "label": pair_label(forecast.pair),
        "href": f"/?pair={forecast.pair}",
        "last_close": last,
        "last_close_text": price(last),
        "expected": quantiles["q50"] / last - 1,
        "low": quantiles["q10"] / last - 1,
        "high": quantiles["q90"] / last - 1,
        "width": (quantiles["q90"] - quantiles["q10"]) / last,
        "skill": model.skill_vs_naive,
        "coverage": model.coverage_80,
        "drift": "–" if score is None else f"drifted: {score.reason}" if score.drifted else "no",
        "age_hours": model.age_hours,
        "age": age(model.age_hours),
        "status": _status(forecast),
    }


def _status(forecast: Forecast) -> str:
    flags = forecast.flags
    told = [
        (flags.stale, f"stale: as of {clock(forecast.as_of_ms)}"),
        (flags.expired, "model too old"),
        (flags.foundation, "by the model of all pairs"),
    ]
    return ", ".join(text for is_so, text in told if is_so) or "ok"


def _summary(forecasts: list[Forecast], missing: dict[str, str]) -> Component | None:
    if not forecasts:
        return notices.nothing_served_yet()
    ok = sum(not (forecast.flags.stale or forecast.flags.expired) for forecast in forecasts)
    market = forecasts[0].market
    newest = max(forecast.target_close_ms for forecast in forecasts)
    said = f"{ok} of {len(forecasts) + len(missing)} pairs are up to date; closes of {clock(newest)}; {market} prices."
    return dmc.Text(said, c="dimmed", size="sm")
