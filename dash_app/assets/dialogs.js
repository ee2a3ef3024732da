// Mantine gives a dialog a <header>, which screen readers would announce as a second banner of the page.
new MutationObserver(() => {
  for (const header of document.querySelectorAll(".mantine-Modal-header:not([role])")) header.setAttribute("role", "none");
}).observe(document.documentElement, { childList: true, subtree: true });
