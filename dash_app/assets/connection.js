// Dash has no hook for a callback that the server refuses: without this, an open tab of an ended session stays silent.
(() => {
  const ask = window.fetch;
  const bar = document.createElement("div");
  bar.id = "connection";
  bar.setAttribute("role", "status");
  const tell = (text) => {
    if (bar.textContent !== text) bar.textContent = text;
    if (text && !bar.isConnected) document.body.append(bar);
    if (!text) bar.remove();
  };
  window.fetch = async (resource, options) => {
    const isCallback = String(resource.url || resource).includes("/_dash-update-component");
    try {
      const answer = await ask(resource, options);
      if (isCallback && answer.status === 401) {
        location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
      } else if (isCallback && answer.status === 400) {
        tell("This page is too old: load it again.");
      } else if (isCallback) {
        tell(answer.status >= 500 ? "Something broke on the server. The page tries again." : "");
      }
      return answer;
    } catch (error) {
      if (isCallback) tell("The dashboard cannot be reached. The page tries again.");
      throw error;
    }
  };
})();
