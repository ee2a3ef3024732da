// Mantine gives a dialog a <header>, which screen readers would announce as a second banner of the page.
new MutationObserver(() => {
  for (const header of document.querySelectorAll(".mantine-Modal-header:not([role])")) header.setAttribute("role", "none");
}).observe(document.documentElement, { childList: true, subtree: true });

// A button shows or hides the dialog that it names in `data-opens` or `data-closes`.
document.addEventListener("click", ({ target }) => {
  const { opens, closes } = target.closest("[data-opens], [data-closes]")?.dataset ?? {};
  if (opens || closes) dash_clientside.set_props(opens ?? closes, { opened: Boolean(opens) });
});
