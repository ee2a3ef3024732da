// Enter in a field clicks the button that the group of fields names in `data-submits`, as in a form. An open list of
// options takes Enter for itself.
document.addEventListener("keydown", (event) => {
  const field = event.target;
  const group = field.closest("[data-submits]");
  if (event.key !== "Enter" || event.isComposing || !group || field.tagName !== "INPUT") return;
  if (field.getAttribute("aria-expanded") === "true" && field.getAttribute("aria-activedescendant")) return;
  setTimeout(() => document.getElementById(group.dataset.submits)?.click(), 50); // after Dash has the field's value
});
