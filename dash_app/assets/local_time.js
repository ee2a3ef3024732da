// Writes each <time> of the page in the browser's time zone, and UTC on hover. Dash changes the text when the time changes.
const zoned = { day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZoneName: "short" };
const inLocalTime = (time) => new Date(time).toLocaleString("en-GB", zoned).replace(",", "");

const writeLocalTime = (element) => {
  const local = inLocalTime(element.dateTime);
  if (element.textContent === local) return;
  element.title = element.textContent;
  // React keeps this text node
  element.firstChild.nodeValue = local;
};

new MutationObserver(() => document.querySelectorAll("time[datetime]").forEach(writeLocalTime)).observe(document, {
  childList: true,
  characterData: true,
  subtree: true,
});
