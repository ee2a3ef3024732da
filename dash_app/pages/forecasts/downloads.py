"""The downloads of the forecasts page: the numbers as CSV, the chart as PNG."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from dash import Input, Output, State, no_update

from dash_app.callbacks import Callbacks
from dash_app.components import notices
from dash_app.components.formatting import pair_label, utc
from dash_app.pages import services
from dash_app.security.validation import Clicks, IntervalName
from make_us_rich.client import Client, ServiceRefused, ServiceUnavailable
from make_us_rich.core.interval import Interval
from make_us_rich.core.pair import Pair
from make_us_rich.core.times import iso_text
from make_us_rich.documents import QUANTILE_NAMES, Forecast, PastForecast
from make_us_rich.market.candles import Candles

CHAMPION = "champion"
OtherModel = Literal["previous", "foundation", "naive", "ewma"]

HISTORY = 168
"""Candles and past forecasts that are counted and downloaded: a week of hours."""

_COLUMNS = (
    "kind",
    "pair",
    "interval",
    "model",
    "model_version",
    "horizon",
    "target_close",
    "target_close_ms",
    "last_close",
    *QUANTILE_NAMES,
    "open",
    "high",
    "low",
    "close",
    "volume",
    "inside_80",
    "market",
)
callbacks = Callbacks()
callbacks.in_browser(
    "forecasts.downloadPicture",
    Output("png", "n_clicks"),
    Input("png", "n_clicks"),
    State("drawing", "data"),
    prevent_initial_call=True,
)


@callbacks(
    Output("csv-file", "data"),
    Output("csv-notice", "children"),
    Input("csv", "n_clicks"),
    State("pair", "value"),
    State("interval", "value"),
    State("compare", "value"),
    prevent_initial_call=True,
    running=[(Output("csv", "loading"), True, False)],
)
def download_csv(
    clicks: Clicks, pair: Pair | None, interval: IntervalName, others: list[OtherModel] | None
) -> tuple[Any, Any]:
    if not clicks or pair is None:
        return no_update, no_update
    client = services().client
    try:
        forecasts, _ = with_others(client, client.forecast(pair, interval=interval), others or [])
        past = client.history(pair, HISTORY, interval=interval)
        content = _csv(forecasts, past, client.candles(pair, HISTORY, interval))
    except (ServiceUnavailable, ServiceRefused) as error:
        return no_update, notices.download_failed(error)
    filename = f"{file_name(forecasts[CHAMPION])}.csv"
    return {"content": content, "filename": filename, "type": "text/csv"}, None


def with_others(
    client: Client, champion: Forecast, others: Collection[OtherModel]
) -> tuple[dict[str, Forecast], list[str]]:
    """Return the champion's forecast and those of the other models, by name, and why models are missing."""
    forecasts, missing = {CHAMPION: champion}, []
    for name in dict.fromkeys(others):
        try:
            forecasts[name] = client.forecast(champion.pair, name, interval=champion.interval)
        except ServiceRefused as error:
            missing.append(str(error))
    return forecasts, missing


def file_name(forecast: Forecast) -> str:
    """Return the name of a download without its ending: btc_usdt_1h_2026-11-14_2200_UTC."""
    return f"{forecast.pair}_{forecast.interval}_{utc(forecast.as_of_ms):%Y-%m-%d_%H%M}_UTC"


def picture_title(forecast: Forecast) -> str:
    """Return pair, market, interval and time: a picture is shared without the page that says them."""
    as_of = utc(forecast.as_of_ms)
    market = "simulated prices" if forecast.flags.simulated else f"prices of {forecast.market}"
    if forecast.market == "recorded":
        market = "recorded prices, replayed"
    return f"{pair_label(forecast.pair)}, {market}, {forecast.interval}, forecast as of {as_of:%d %b %Y %H:%M} UTC"


def _csv(forecasts: Mapping[str, Forecast], past: Sequence[PastForecast], candles: Candles) -> str:
    """Return the coming closes by each model, then the past candles, newest first, with the forecast of each close.

    kind: `forecast` for a coming close; for a past one `served` if it was forecast in time, `backfilled` if afterwards,
    `candle` if never. Prices in the quote currency.
    """
    file = io.StringIO()
    writer = csv.DictWriter(file, _COLUMNS)
    writer.writeheader()
    own = forecasts[CHAMPION]
    of_pair = {"market": own.market, "pair": own.pair, "interval": own.interval}
    for name, forecast in forecasts.items():
        made_by = {"model": name, "model_version": forecast.model.version, "last_close": forecast.last_close}
        for item in forecast.horizons:
            times = {"horizon": item.horizon, **_target(item.target_close_ms)}
            writer.writerow({"kind": "forecast", **of_pair, **made_by, **times, **dict(item.quantiles)})
    by_open = {item.target_open_ms: item for item in past}
    step_ms = Interval(own.interval).ms
    for open_ms, *values in reversed(list(zip(*(column.tolist() for column in vars(candles).values()), strict=True))):
        candle = dict(zip(("open", "high", "low", "close", "volume"), values, strict=True))
        writer.writerow({**of_pair, **_target(open_ms + step_ms), **candle, **_forecast_of(by_open.get(open_ms))})
    return file.getvalue()


def _forecast_of(past: PastForecast | None) -> dict[str, object]:
    """Return the columns of a past candle's forecast."""
    if past is None:
        return {"kind": "candle"}
    return {
        "kind": "backfilled" if past.backfilled else "served",
        "model": "foundation" if past.foundation else "own",
        "model_version": past.model_version,
        "horizon": past.horizon,
        "last_close": past.last_close,
        **dict(past.quantiles),
        "inside_80": past.inside_80,
    }


def _target(time_ms: int) -> dict[str, object]:
    return {"target_close": iso_text(time_ms), "target_close_ms": time_ms}
