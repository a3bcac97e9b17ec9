/**
 * A form with data-sends-changes sends the groups of controls in which something changed, to the
 * preview as on submit: a large service has thousands of controls. A hidden field beside each
 * control, "was:" and its name, holds what the control showed. Groups stay whole, because a limit
 * is two numbers. Without this script everything is sent, and the server finds what changed.
 */
document.addEventListener("formdata", (event) => {
  if (!event.target.matches("[data-sends-changes]")) return;
  for (const group of event.target.querySelectorAll("[role=group]")) {
    const pairs = Array.from(group.querySelectorAll("input[type=hidden][name^='was:']"), (was) => [
      was,
      was.closest(".control").querySelector("input[name]:not([type=hidden]), select[name]"),
    ]);
    if (pairs.some(([was, control]) => control.value !== was.value)) continue;
    for (const [was, control] of pairs) {
      event.formData.delete(was.name);
      event.formData.delete(control.name);
    }
  }
});
