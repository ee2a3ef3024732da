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

// Returns the path of the page to show, which may have changed while the script was loading.
window.loadTables = async (needed) => {
  if (needed && !window.dash_ag_grid) {
    await loadScript("/_dash-component-suites/dash_ag_grid/dash_ag_grid.min.js");
  }
  return window.location.pathname;
};
