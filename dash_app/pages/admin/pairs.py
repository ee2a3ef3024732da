"""Which pairs are trained and served; a training run without waiting for the hour."""

from __future__ import annotations

from typing import Any

import dash_ag_grid as dag
import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, ctx, html, no_update
from dash.development.base_component import Component
from flask_login import current_user
from typing_extensions import TypedDict

from dash_app.components.grids import ONE_ROW_CHOSEN, fitting, text
from dash_app.security.auth import as_sentence
from dash_app.security.callbacks import Clicks, PairName, Text, checked
from dash_app.security.guard import admins_only
from make_us_rich.accounts import Accounts
from make_us_rich.core.errors import InputError
from make_us_rich.core.pair import Pair
from make_us_rich.core.settings import Settings
from make_us_rich.database import pairs as pairs_table
from make_us_rich.operations.airflow import Airflow, AirflowError

_DAG = "train_pairs"
_COLUMNS = [
    text("Pair", "pair", minWidth=120),
    text("Plan", "plan", minWidth=110),
    text("Replicas", "replicas", minWidth=100),
    text("State", "state", flex=3, minWidth=240),
]


class PairRow(TypedDict):
    """Of a chosen row, what the buttons read."""

    pair: PairName


_SMALL = {"size": "sm", "variant": "default"}


def layout() -> Component:
    return dmc.Stack(
        [
            dag.AgGrid(
                id="admin-pairs",
                columnDefs=_COLUMNS,
                getRowId="params.data.pair",
                dashGridOptions=ONE_ROW_CHOSEN,
                style=fitting(4),
            ),
            html.Div(id="admin-pairs-told", role="status"),
            dmc.Paper(
                dmc.Group(
                    [
                        dmc.Button("Train now", id="admin-train", **_SMALL),
                        dmc.TextInput(id="admin-park-reason", label="Reason, shown to users", size="sm", w=240),
                        dmc.Button("Park", id="admin-park", **_SMALL),
                        dmc.Button("Unpark", id="admin-unpark", **_SMALL),
                    ],
                    align="end",
                ),
                withBorder=True,
                p="md",
                radius="md",
            ),
            dmc.Paper(
                dmc.Group(
                    [
                        dmc.TextInput(
                            id="admin-new-pair", label="Pair", placeholder="such as btc_usdt", size="sm", w=180
                        ),
                        dmc.Select(
                            id="admin-pair-plan",
                            label="Plan",
                            data=list(pairs_table.SERVING_PLANS),
                            value="dedicated",
                            allowDeselect=False,
                            size="sm",
                            w=140,
                        ),
                        dmc.Button("Add, or change its plan", id="admin-put-pair", **_SMALL),
                    ],
                    align="end",
                ),
                withBorder=True,
                p="md",
                radius="md",
            ),
        ]
    )


def register(app: Dash, settings: Settings, accounts: Accounts) -> None:
    database_url = settings.database_url.get_secret_value()

    @app.callback(Output("admin-pairs", "rowData"), Output("admin-pairs", "style"), Input("admin-pairs", "id"))
    @admins_only
    @checked
    def show(_: str) -> tuple[Any, Any]:
        rows = _rows(database_url)
        return rows, fitting(min(len(rows), 10))

    @app.callback(
        Output("admin-pairs-told", "children"),
        Output("admin-pairs", "rowData", allow_duplicate=True),
        Input("admin-train", "n_clicks"),
        Input("admin-park", "n_clicks"),
        Input("admin-unpark", "n_clicks"),
        Input("admin-put-pair", "n_clicks"),
        State("admin-pairs", "selectedRows"),
        State("admin-park-reason", "value"),
        State("admin-new-pair", "value"),
        State("admin-pair-plan", "value"),
        prevent_initial_call=True,
    )
    @admins_only
    @checked
    def change(
        _train_clicks: Clicks,
        _park_clicks: Clicks,
        _unpark_clicks: Clicks,
        _put_clicks: Clicks,
        selected: list[PairRow] | None,
        reason: Text,
        new_pair: Text,
        plan: Text,
    ) -> tuple[Any, Any]:
        trigger = ctx.triggered_id
        if not ctx.triggered[0]["value"]:  # the tab was opened, nobody clicked
            return no_update, no_update
        chosen = (new_pair or "") if trigger == "admin-put-pair" else selected[0]["pair"] if selected else ""
        if not chosen:
            return dmc.Alert("Choose a pair first.", color="orange", variant="light"), no_update
        try:
            pair = Pair.parse(chosen)
            match trigger:
                case "admin-train":
                    told = _train(settings, pair)
                    accounts.audit(current_user.name, "start training", pair)
                case "admin-park":
                    why = (reason or "").strip()
                    if not why:
                        raise InputError("say why: users read it where the pair was", field="reason")
                    pairs_table.park(database_url, pair, why)
                    accounts.audit(current_user.name, "park pair", pair, why)
                    told = _done(f"{pair} is parked: the next run leaves it out, and it is served no more.")
                case "admin-unpark":
                    pairs_table.unpark(database_url, pair)
                    accounts.audit(current_user.name, "unpark pair", pair)
                    told = _done(f"{pair} is trained and served again from the next run on.")
                case _:
                    listed = pairs_table.put(database_url, pair, plan=plan)
                    accounts.audit(current_user.name, "put pair", listed.pair, listed.plan)
                    told = _done(f"{listed.pair} is on the plan {listed.plan} from the next run on.")
        except (InputError, AirflowError) as error:
            told = dmc.Alert(as_sentence(error), color="red", variant="light")
        return told, _rows(database_url)


def _train(settings: Settings, pair: Pair) -> Component:
    with Airflow.from_settings(settings) as airflow:
        airflow.unpause(_DAG)
        run_id = airflow.trigger(_DAG, {"pairs": [pair]})
    follow = dmc.Anchor(
        "Follow it in Airflow",
        href=f"{settings.airflow_link_url}/dags/{_DAG}/runs/{run_id}",
        target="_blank",
        inherit=True,
    )
    return dmc.Alert([f"A training run of {pair} has begun. ", follow, "."], color="teal", variant="light")


def _done(said: str) -> Component:
    return dmc.Alert(said, color="teal", variant="light")


def _rows(database_url: str) -> list[dict[str, Any]]:
    return [
        {
            "pair": item.pair,
            "plan": item.plan,
            "replicas": f"{item.min_replicas} to {item.max_replicas}",
            "state": f"parked since {item.parked_at:%Y-%m-%d %H:%M}: {item.parked_reason}"
            if item.parked_at
            else ("active" if item.active else "off"),
        }
        for item in pairs_table.tracked(database_url)
    ]
