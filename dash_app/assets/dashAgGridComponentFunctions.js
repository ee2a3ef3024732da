const cells = (window.dashAgGridComponentFunctions = window.dashAgGridComponentFunctions || {});

cells.CellLink = ({ data, value }) =>
  React.createElement("a", data.href ? { href: data.href, className: "cell-link" } : {}, data.label || value);
