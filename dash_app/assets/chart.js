// Used by the clientside callbacks of the forecasts page.

// Plotly knows no time zones: the times of a chart are moved from UTC to the local clock of its next close, and its axis
// names the zone. All by the same offset, or candles would overlap or leave a gap where the clock changes.
const movedBy = (minutes) => (utc) => {
  if (!utc) return utc;
  return new Date(new Date(`${utc}Z`) - minutes * 60_000).toISOString().slice(0, -1);
};

const zoneAt = (time) =>
  new Date(time).toLocaleTimeString("en-GB", { timeZoneName: "short" }).split(" ").pop();

// Texts hold times as {milliseconds}.
const withLocalTimes = (text) => text.replace(/\{(\d+)\}/g, (_, time) => inLocalTime(Number(time)));

window.chartInLocalTime = ({ figure, marks, next_close_ms }) => {
  const onLocalClock = movedBy(new Date(next_close_ms).getTimezoneOffset());
  const moved = (part) => {
    const copy = { ...part };
    if (part.xref !== "x domain") for (const end of ["x", "x0", "x1"]) if (part[end]) copy[end] = onLocalClock(part[end]);
    return copy;
  };
  const axis = { ...figure.layout.xaxis };
  const zone = zoneAt(next_close_ms), changes = axis.range.some((end) => zoneAt(`${end}Z`) !== zone);
  axis.range = axis.range.map(onLocalClock);
  axis.title = { ...axis.title, text: changes ? `${zone}, without the clock change` : zone };
  const shapes = figure.layout.shapes.map(moved);
  return {
    figure: {
      ...figure,
      data: figure.data.map((trace) => ({
        ...trace,
        x: trace.x.map(onLocalClock),
        ...(trace.hovertext ? { hovertext: trace.hovertext.map(withLocalTimes) } : {}),
      })),
      layout: { ...figure.layout, xaxis: axis, shapes },
    },
    marks: marks.map((mark) => ({ shapes: mark.shapes.map(moved), annotations: mark.annotations.map(moved) })),
  };
};

// Whether the band at the chosen horizon can be seen. `ends`: the labels of its upper and its lower end.
window.isInView = (ends) => {
  const { xaxis, yaxis } = document.querySelector("#chart .js-plotly-plot").layout;
  const [from, to] = xaxis.range.map((time) => new Date(time));
  const [low, high] = yaxis.range, prices = ends.map(({ y }) => y), time = new Date(ends[0].x);
  return from < time && time < to && low < Math.max(...prices) && high > Math.min(...prices);
};
