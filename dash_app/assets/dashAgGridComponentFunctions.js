const cells = (window.dashAgGridComponentFunctions = window.dashAgGridComponentFunctions || {});

cells.CellLink = ({ data, value }) =>
  React.createElement("a", data.href ? { href: data.href, className: "cell-link" } : {}, data.label || value);

// A picture of the coming bands. `value`: the corners of the 80 % band and of the 50 % band, separated by |, in a square
// of 100. The dotted line is the last close. The columns beside it hold the same in numbers.
cells.CellFan = ({ value }) => {
  if (!value) return null;
  const [wide, narrow] = value.split("|");
  const line = { stroke: "rgb(125, 133, 144)", strokeDasharray: "2 2", vectorEffect: "non-scaling-stroke" };
  return React.createElement(
    "svg",
    { viewBox: "0 0 100 100", preserveAspectRatio: "none", className: "cell-fan", "aria-hidden": true },
    React.createElement("line", { x1: 0, y1: 50, x2: 100, y2: 50, ...line }),
    React.createElement("polygon", { points: wide, fill: "rgba(124, 92, 191, 0.35)" }),
    React.createElement("polygon", { points: narrow, fill: "rgba(124, 92, 191, 0.7)" }),
  );
};
