// Back and Forward choose the pair and the interval of the address again. Dash's own location does not see these steps,
// because a choice changes the address without loading a page.
(() => {
  const IDS = { "/": ["pair", "interval"], "/models": ["models-pair", "models-interval"] };
  let target = null; // the address that Back asked for, until both components have its values

  window.addEventListener("popstate", () => {
    const [pairId, intervalId] = IDS[location.pathname] ?? [];
    const query = new URLSearchParams(location.search);
    if (!query.get("pair") || !document.getElementById(pairId)) return;
    target = location.search;
    setTimeout(() => (target = null), 1000);
    if (query.get("interval")) dash_clientside.set_props(intervalId, { value: query.get("interval") });
    dash_clientside.set_props(pairId, { value: query.get("pair") });
  });

  // Writes a choice into the address of a page: as a step of the history, unless the page was just opened or Back chose.
  window.rememberChoice = (path, pair, interval, intervals) => {
    if (!pair || location.pathname !== path) return;
    const query = intervals.length > 1 ? `?pair=${pair}&interval=${interval}` : `?pair=${pair}`;
    if (target || query === location.search) return;
    const before = new URLSearchParams(location.search);
    const isFirst = !before.get("pair") || (before.get("pair") === pair && !before.get("interval"));
    history[isFirst ? "replaceState" : "pushState"](null, "", path + query);
  };
})();
