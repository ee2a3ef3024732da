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
  // The answers of requests that were under way when the user left the page, for example by logging out, do not matter.
  let leavingUntil = 0;
  window.addEventListener("beforeunload", () => {
    leavingUntil = Date.now() + 5000;
  });
  window.fetch = async (resource, options) => {
    const isCallback = String(resource.url || resource).includes("/_dash-update-component");
    try {
      const response = await originalFetch(resource, options);
      if (Date.now() < leavingUntil) return response;
      if (isCallback && response.status === 401) {
        location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
      } else if (isCallback && response.status === 400) {
        show("This page has expired. Reload it.");
      } else if (isCallback) {
        show(response.status >= 500 ? "Server error. The page retries automatically." : "");
      }
      return response;
    } catch (error) {
      if (isCallback && Date.now() >= leavingUntil) show("The dashboard cannot be reached. The page retries automatically.");
      throw error;
    }
  };
})();
