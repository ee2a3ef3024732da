// Components that the cells of a table are drawn with: https://dash.plotly.com/dash-ag-grid/cell-renderer-components
const cells = (window.dashAgGridComponentFunctions = window.dashAgGridComponentFunctions || {});

// The button at the end of a row: selects the row and shows the dialog of its actions.
cells.RowActions = ({ value, node, dialog, eGridCell }) => {
  const button = React.useRef(null);
  // The keys of the table give the focus to the cell; Enter has to reach the button in it.
  React.useEffect(() => {
    const pass = (event) => event.target === eGridCell && button.current.focus();
    eGridCell.addEventListener("focus", pass);
    return () => eGridCell.removeEventListener("focus", pass);
  }, [eGridCell]);
  const open = () => {
    node.setSelected(true, true);
    dash_clientside.set_props(`${dialog}-notice`, { children: null });
    dash_clientside.set_props(dialog, { opened: true });
  };
  const label = { "aria-label": `actions for ${value}`, "aria-haspopup": "dialog" };
  return React.createElement(
    "button",
    { ref: button, type: "button", className: "row-actions", tabIndex: -1, onClick: open, ...label },
    "⋯",
  );
};
