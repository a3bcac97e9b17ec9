/**
 * A change made in one tab refreshes the others at once: their regions listen for
 * "override-changed". The tab that made it needs no event, for the answer is a new page; that
 * page tells the others, so that they never ask before the change is made.
 */
const WROTE = "tidegate-wrote";
const tabs = new BroadcastChannel("tidegate");

document.addEventListener("submit", (event) => {
  // The key is in every form that writes, and in no other.
  if (event.target.querySelector("input[name=once]")) window.sessionStorage.setItem(WROTE, "yes");
});

if (window.sessionStorage.getItem(WROTE)) {
  window.sessionStorage.removeItem(WROTE);
  tabs.postMessage("override-changed");
}

tabs.addEventListener("message", () => {
  document.body.dispatchEvent(new CustomEvent("override-changed"));
});
