/**
 * A refresh must not move what somebody is reading: while the pointer or the keyboard focus is
 * on a [data-steady] region, its rows keep their order. The region's name of the parameter is in
 * the attribute; rows carry data-key. Beyond LIMIT rows the order is too long for a URL.
 */
const LIMIT = 150;

document.addEventListener("htmx:configRequest", (event) => {
  const region = event.detail.elt;
  const name = region.dataset?.steady;
  if (!name || event.detail.verb !== "get") return;
  if (!region.matches(":hover, :focus-within")) return;
  const keys = Array.from(region.querySelectorAll("[data-key]"), (row) => row.dataset.key);
  if (keys.length && keys.length <= LIMIT) event.detail.parameters[name] = keys.join(",");
});
