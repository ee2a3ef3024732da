// The callbacks of the forecasts page that need no server. chart.js moves a chart to the reader's clock.
window.dash_clientside = window.dash_clientside || {};
window.dash_clientside.forecasts = {
  // Slider and switch count candles and show how long they last.
  labelCandles: (interval, { marked, horizons, spans }) => {
    const labels = horizons[interval];
    const marks = marked.map((horizon) => ({ value: horizon, label: labels[horizon - 1] }));
    const label = { function: "labelOf", options: { labels } }; // in dashMantineFunctions.js
    return [marks, label, spans[interval], spans[interval]];
  },

  // By the clock of the browser: the time left, and in local time when the close is.
  countDown: (_, drawing) => {
    if (!drawing) return "";
    const left = Math.ceil((drawing.next_close_ms - Date.now()) / 1000);
    if (left <= 0) return "the candle has closed, its forecast is coming";
    const two = (number) => String(number).padStart(2, "0");
    const hours = Math.floor(left / 3600), rest = `${two(Math.floor(left / 60) % 60)}:${two(left % 60)}`;
    const time = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
    const local = new Date(drawing.next_close_ms).toLocaleTimeString([], time);
    return `next close in ${hours ? `${hours}:` : ""}${rest}, at ${local} local time`;
  },

  // Moves the line and the labels to the chosen horizon. `shown` has the view that the reader zoomed to, which Plotly
  // keeps while uirevision stays the same. If a drag or another horizon would leave the horizon out of view, the whole
  // chart is shown again.
  draw: (drawing, horizon, resets, _, shown) => {
    const { no_update, callback_context } = window.dash_clientside;
    if (!drawing) return no_update;
    const { figure, marks } = window.chartInLocalTime(drawing);
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
    return { ...base, layout: { ...base.layout, shapes, annotations: mark.annotations, uirevision } };
  },

  // A price of one pair means nothing for another.
  choose: (pair, interval, wide, narrow, above, intervals) => {
    window.rememberChoice("/", pair, interval, intervals); // in history.js
    const unchanged = window.dash_clientside.no_update;
    const span = matchMedia("(min-width: 48em)").matches ? wide : narrow; // as visibleFrom="sm" shows the controls
    const choice = { pair: pair ?? null, interval, width: window.innerWidth, span: Number(span) };
    return [choice, above ? "" : unchanged, pair ? pair.split("_")[1].toUpperCase() : unchanged];
  },

  // The forecast of another pair must not stand below the name of the chosen one while that one's is on its way.
  wait: (one, other) => {
    const [choice, drawing] = one?.figure || !one ? [other, one] : [one, other];
    const isOther = choice?.pair && drawing && (choice.pair !== drawing.pair || choice.interval !== drawing.interval);
    const text = isOther ? `Loading ${choice.pair.replace("_", " / ").toUpperCase()} …` : "";
    return [text, isOther ? "of-another-pair" : "", isOther ? "of-another-pair" : ""];
  },

  downloadPicture: (clicks, drawing) => {
    const plot = document.querySelector("#chart .js-plotly-plot");
    if (clicks && plot && drawing) {
      const back = getComputedStyle(document.body).backgroundColor;
      const title = { text: drawing.title, x: 0.01, xanchor: "left", y: 0.99, yanchor: "top", font: { size: 16 } };
      const margin = { ...plot.layout.margin, t: plot.layout.margin.t + 32 };
      const changed = { paper_bgcolor: back, plot_bgcolor: back, title, margin };
      const size = { width: plot.offsetWidth, height: plot.offsetHeight + 32 };
      const figure = { data: plot.data, layout: { ...plot.layout, ...changed } };
      Plotly.downloadImage(figure, { format: "png", filename: drawing.name, scale: 2, ...size });
    }
    return window.dash_clientside.no_update;
  },
};
