"""What the forecasts page does in the browser, without asking the server: clientside callbacks of Dash."""

from __future__ import annotations

import json

from dash_app.components.formatting import duration
from make_us_rich.core.interval import TRAINING_CANDLES
from make_us_rich.documents import HORIZONS

SPANS = (24, 48, 168)
"""How many candles the chart can show."""

_MARKED_HORIZONS = (1, 4, 8, 12, 18, HORIZONS)
# By interval, how long each number of candles lasts.
_DURATIONS = {
    interval: [duration(horizon * interval.ms) for horizon in range(1, HORIZONS + 1)] for interval in TRAINING_CANDLES
}
_SPAN_LABELS = {interval: [duration(span * interval.ms) for span in SPANS] for interval in TRAINING_CANDLES}
# Slider and switch count candles and show how long they last.
LABEL_CANDLES = f"""(interval) => {{
    const labels = {json.dumps(_DURATIONS)}[interval], spans = {json.dumps(_SPAN_LABELS)}[interval];
    const marks = {list(_MARKED_HORIZONS)}.map((horizon) => ({{value: horizon, label: labels[horizon - 1]}}));
    const shown = {list(SPANS)}.map((span, index) => ({{value: String(span), label: spans[index]}}));
    const label = {{function: "labelOf", options: {{labels}}}};  // assets/dashMantineFunctions.js
    return [marks, label, shown, shown];
}}"""
# By the clock of the browser: the time left, and in local time when the close is.
COUNT_DOWN = """(_, drawing) => {
    if (!drawing) return "";
    const left = Math.ceil((drawing.next_close_ms - Date.now()) / 1000);
    if (left <= 0) return "the candle has closed, its forecast is coming";
    const two = (number) => String(number).padStart(2, "0");
    const hours = Math.floor(left / 3600), rest = `${two(Math.floor(left / 60) % 60)}:${two(left % 60)}`;
    const time = {hour: "2-digit", minute: "2-digit", hourCycle: "h23"};
    const local = new Date(drawing.next_close_ms).toLocaleTimeString([], time);
    return `next close in ${hours ? `${hours}:` : ""}${rest}, at ${local} local time`;
}"""
# Only the line and the labels change with the horizon. What is shown holds the part that the reader zoomed to, and
# Plotly keeps that as long as uirevision stays. When a drag, or the choice of another, leaves the horizon out of view,
# the chart goes back to the whole.
DRAW = """(drawing, horizon, resets, _, shown) => {
    const {no_update, callback_context} = window.dash_clientside;
    if (!drawing) return no_update;
    const {figure, marks} = window.chartInLocalTime(drawing);
    const mark = marks[Math.min(horizon || 1, marks.length) - 1];
    const triggers = callback_context.triggered.map((part) => part.prop_id);
    const [trigger] = triggers.length === 1 ? triggers : [];
    const isDragged = trigger === "chart.relayoutData", isChosen = trigger === "horizon.value";
    const isOutOfView = (isDragged || isChosen) && !window.isInView(mark.annotations);
    if (isDragged && !isOutOfView) return no_update;
    const view = `${figure.layout.uirevision} ${resets ?? 0} `, last = shown?.layout?.uirevision ?? "";
    const uirevision = isOutOfView ? view + Date.now() : last.startsWith(view) ? last : view;
    const base = isChosen && !isOutOfView ? shown : figure;
    const shapes = [...figure.layout.shapes, ...mark.shapes];
    return {...base, layout: {...base.layout, shapes, annotations: mark.annotations, uirevision}};
}"""
# A price of one pair means nothing for another.
CHOOSE = """(pair, interval, wide, narrow, above, intervals) => {
    window.rememberChoice("/", pair, interval, intervals);  // assets/history.js
    const unchanged = window.dash_clientside.no_update;
    const span = matchMedia("(min-width: 48em)").matches ? wide : narrow;  // as visibleFrom="sm" shows the controls
    const choice = {pair: pair ?? null, interval, width: window.innerWidth, span: Number(span)};
    return [choice, above ? "" : unchanged, pair ? pair.split("_")[1].toUpperCase() : unchanged];
}"""
# The forecast of another pair must not stand below the name of the chosen one while that one's is on its way.
WAIT = """(one, other) => {
    const [choice, drawing] = one?.figure || !one ? [other, one] : [one, other];
    const isOther = choice?.pair && drawing && (choice.pair !== drawing.pair || choice.interval !== drawing.interval);
    const text = isOther ? `Loading ${choice.pair.replace("_", " / ").toUpperCase()} …` : "";
    return [text, isOther ? "of-another-pair" : "", isOther ? "of-another-pair" : ""];
}"""
