// Report failed callback requests, for which Dash has no hook: go to the log-in when the session has ended, and show a
// bar when the server fails or cannot be reached.
(() => {
  const originalFetch = window.fetch;
  const bar = document.createElement("div");
  bar.id = "connection";
  bar.setAttribute("role", "status");
  const show = (text) => {
    if (bar.textContent !== text) bar.textContent = text;
    if (text && !bar.isConnected) document.body.append(bar);
    if (!text) bar.remove();
  };
  window.fetch = async (resource, options) => {
    const isCallback = String(resource.url || resource).includes("/_dash-update-component");
    try {
      const response = await originalFetch(resource, options);
      if (isCallback && response.status === 401) {
        location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
      } else if (isCallback && response.status === 400) {
        show("This page has expired. Reload it.");
      } else if (isCallback) {
        show(response.status >= 500 ? "Server error. The page retries automatically." : "");
      }
      return response;
    } catch (error) {
      if (isCallback) show("The dashboard cannot be reached. The page retries automatically.");
      throw error;
    }
  };
})();
