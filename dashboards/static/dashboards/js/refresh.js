/**
 * When regions refresh, and what the page says when they cannot.
 *
 * Polls stop in hidden tabs, while the reader has paused them, and while text is selected. A
 * change made in another tab refreshes hidden ones too, but nothing that is paused or selected.
 * Ages keep counting between refreshes, so that a figure never looks younger than it is.
 */
let paused = false;

/** Whether `event` is a timed refresh, as opposed to something the reader asked for. */
function isPoll(event) {
  return (event.detail.elt?.getAttribute("hx-trigger") || "").includes("every") && !event.detail.requestConfig?.triggeringEvent;
}

/** Whether the reader has text selected inside `element`. */
function isBeingCopied(element) {
  const selection = window.getSelection();
  return Boolean(selection && !selection.isCollapsed && element.contains(selection.anchorNode));
}

document.addEventListener("htmx:beforeRequest", (event) => {
  const isNews = event.detail.requestConfig?.triggeringEvent?.type === "override-changed";
  if (!isPoll(event) && !isNews) return;
  if ((document.hidden && !isNews) || paused || isBeingCopied(event.detail.elt)) event.preventDefault();
});

/** Show or hide the banner that says Tidegate itself does not answer. */
function setConnected(isConnected, detail) {
  const banner = document.querySelector("[data-connection]");
  if (!banner || banner.hidden === isConnected) return;
  banner.hidden = isConnected;
  if (!isConnected) {
    const since = new Date().toISOString().slice(11, 19);
    banner.textContent = `Tidegate ${detail} since ${since} UTC. What you see is from before; services keep enforcing their last policy.`;
  }
}

document.addEventListener("htmx:sendError", () => setConnected(false, "does not answer"));
document.addEventListener("htmx:timeout", () => setConnected(false, "does not answer"));
document.addEventListener("htmx:responseError", (event) => {
  if (event.detail.xhr.status >= 500) setConnected(false, `answers ${event.detail.xhr.status}`);
});
document.addEventListener("htmx:afterOnLoad", (event) => {
  if (event.detail.xhr.status < 400) setConnected(true, "");
});

/** Words for an age: the same as the server prints. */
function ageText(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} m` : `${Math.floor(minutes / 60)} h ${minutes % 60} m`;
}

const loadedAt = new WeakMap();
setInterval(() => {
  for (const element of document.querySelectorAll("[data-age]:not([data-age=''])")) {
    if (!loadedAt.has(element)) loadedAt.set(element, performance.now());
    const age = Number(element.dataset.age) + (performance.now() - loadedAt.get(element)) / 1000;
    element.querySelector("[data-age-text]").textContent = ageText(age);
    const isStale = age > Number(element.dataset.staleAfter);
    element.classList.toggle("warn", isStale || element.dataset.state !== "live");
    element.classList.toggle("ok", !isStale && element.dataset.state === "live" && !paused);
    element.classList.toggle("quiet", paused && !isStale && element.dataset.state === "live");
    if (element.dataset.state === "live") {
      element.querySelector("[data-age-word]").textContent = isStale ? "◆ stale" : paused ? "‖ paused" : "● live";
    }
  }
}, 1000);

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-pause]");
  if (!button) return;
  paused = !paused;
  for (const each of document.querySelectorAll("[data-pause]")) {
    each.setAttribute("aria-pressed", String(paused));
    each.textContent = paused ? "Resume" : "Pause";
  }
});

// The button comes hidden, for it does nothing without this script, and so cannot be given the
// focus back by the swap itself.
let focusedBefore = "";
document.addEventListener("htmx:beforeSwap", () => {
  focusedBefore = document.activeElement?.id || "";
});

document.addEventListener("htmx:load", () => {
  for (const each of document.querySelectorAll("[data-pause]")) {
    each.hidden = false;
    if (each.id === focusedBefore && document.activeElement === document.body) each.focus({ preventScroll: true });
    each.setAttribute("aria-pressed", String(paused));
    each.textContent = paused ? "Resume" : "Pause";
  }
});
