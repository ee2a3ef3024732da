// Components that the cells of a table are drawn with: https://dash.plotly.com/dash-ag-grid/cell-renderer-components
const cells = (window.dashAgGridComponentFunctions = window.dashAgGridComponentFunctions || {});

// The button at the end of a row: selects the row, and tells Dash by `cellRendererData` that it was clicked.
cells.RowActions = ({ value, node, setData, eGridCell }) => {
  const button = React.useRef(null);
  // The keys of the table give the focus to the cell; Enter has to reach the button in it.
  React.useEffect(() => {
    const pass = (event) => event.target === eGridCell && button.current.focus();
    eGridCell.addEventListener("focus", pass);
    return () => eGridCell.removeEventListener("focus", pass);
  }, [eGridCell]);
  const open = () => {
    node.setSelected(true, true);
    setData("open");
  };
  const label = { "aria-label": `actions for ${value}`, "aria-haspopup": "dialog" };
  return React.createElement(
    "button",
    { ref: button, type: "button", className: "row-actions", tabIndex: -1, onClick: open, ...label },
    "⋯",
  );
};
