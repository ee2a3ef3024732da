// The script of the tables is a third of the dashboard, and Forecasts has no table.
const loadScript = (address) =>
  new Promise((done) => {
    const script = document.createElement("script");
    script.src = address;
    script.onload = done;
    script.onerror = () => {
      script.remove();
      setTimeout(() => loadScript(address).then(done), 2000);
    };
    document.head.append(script);
  });

window.loadTables = async () => {
  if (!window.dash_ag_grid) await loadScript("/_dash-component-suites/dash_ag_grid/dash_ag_grid.min.js");
};

// What dash_app/components/tables.py names in the definition of a table.
const gridFunctions = (window.dashAgGridFunctions = window.dashAgGridFunctions || {});

// The colours are Mantine's variables, so a table follows the light and dark schemes.
gridFunctions.dashboardTheme = (theme) =>
  theme.withParams({
    backgroundColor: "var(--mantine-color-body)",
    foregroundColor: "var(--mantine-color-text)",
    browserColorScheme: "inherit",
    accentColor: "var(--accent)",
    fontFamily: "inherit",
    headerFontSize: 13,
    fontSize: 14,
    cellHorizontalPadding: 12,
    wrapperBorderRadius: 8,
  });

// Sorts by a field with a number instead of the text of the cell.
gridFunctions.bySortField = (one, other, field) => (one.data[field] ?? 0) - (other.data[field] ?? 0);
