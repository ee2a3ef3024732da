// Keeps each <span data-age-hours="3.2">3 h</span> up to date, written as age() in components/formatting.py does. The clock
// of the browser may be wrong, so only the time that passed since the age arrived is taken from it.
(() => {
  const arrived = new WeakMap();
  const written = (hours) => {
    if (hours < 1) return `${(hours * 60).toFixed()} min`;
    return hours < 48 ? `${hours.toFixed()} h` : `${(hours / 24).toFixed()} d`;
  };
  const write = (element) => {
    const hours = Number(element.dataset.ageHours);
    if (arrived.get(element)?.hours !== hours) arrived.set(element, { hours, at: Date.now() });
    const text = written(hours + (Date.now() - arrived.get(element).at) / 3_600_000);
    if (element.textContent !== text) element.firstChild.nodeValue = text; // React keeps this text node
  };
  const writeAll = () => document.querySelectorAll("[data-age-hours]").forEach(write);
  new MutationObserver(writeAll).observe(document, { childList: true, subtree: true });
  setInterval(writeAll, 5000);
})();
