// Watches the callbacks of Dash: goes to the log-in when the session has ended, shows a bar when the server fails or
// cannot be reached, and repeats requests that only read until the server answers.
(() => {
  const originalFetch = window.fetch;
  const bar = document.createElement("div");
  bar.id = "connection";
  bar.setAttribute("role", "status");
  let shownAt = 0;
  const show = (text) => {
    if (text) shownAt = performance.now();
    if (bar.textContent !== text) bar.textContent = text;
    if (text && !bar.isConnected) document.body.append(bar);
    if (!text) bar.remove();
  };
  // The answers of requests that were under way when the user left the page, for example by logging out, do not matter.
  let leavingUntil = 0;
  window.addEventListener("beforeunload", () => {
    leavingUntil = Date.now() + 5000;
  });
  const [FIRST_PAUSE_MS, LONGEST_PAUSE_MS] = [1000, 8000];
  const pause = (time) =>
    new Promise((resolve) => {
      setTimeout(resolve, time);
      window.addEventListener("online", resolve, { once: true });
    });
  const newest = new Map(); // by the callback's outputs: the latest request, because an older one's answer is not shown
  // A click or a submitted form may have taken effect although no answer came, so it is never repeated.
  const isAction = (request) => (request.changedPropIds || []).some((name) => /\.(submit_)?n_(clicks|submit)$/.test(name));

  const call = async (resource, options) => {
    const request = JSON.parse(options.body);
    newest.set(request.output, request);
    for (let time = FIRST_PAUSE_MS; ; time = Math.min(2 * time, LONGEST_PAUSE_MS)) {
      const sentAt = performance.now();
      const [response, error] = await originalFetch(resource, options).then(
        (answer) => [answer, null],
        (reason) => [null, reason],
      );
      const isAway = error || [502, 503, 504].includes(response.status);
      const repeats = isAway && !isAction(request) && newest.get(request.output) === request;
      if (Date.now() >= leavingUntil) report(response, isAway, repeats, sentAt);
      if (repeats) await pause(time);
      else if (error) throw error;
      else return response;
    }
  };
  const report = (response, isAway, repeats, sentAt) => {
    const next = repeats ? "The page retries automatically." : "Try again when it answers.";
    if (isAway) show(response ? `The server is not available. ${next}` : `The dashboard cannot be reached. ${next}`);
    else if (response.status >= 500) show("Server error. It was logged. Reload the page, or try again later.");
    else if (response.status === 400) show("This page has expired. Reload it.");
    else if (response.status === 429) show("Too many requests. Wait a moment, then try again.");
    else if (response.status === 401) {
      location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
    } else if (sentAt > shownAt) show(""); // the answer of an earlier request does not tell that the trouble is over
  };
  window.fetch = (resource, options) => {
    const isCallback = String(resource.url || resource).includes("/_dash-update-component");
    return isCallback && options?.body ? call(resource, options) : originalFetch(resource, options);
  };
})();
