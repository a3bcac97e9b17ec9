/**
 * Draw each [data-chart]; the attribute names the JSON script that holds its figure.
 *
 * Figures name colours by token ("token:info"), resolved here from the stylesheet, so that one
 * figure fits the dark and the light theme. The chart's element survives refreshes (hx-preserve),
 * so that zoom and hover do too.
 */
/** `value` with every "token:name" string replaced by the colour that token has now. */
function resolve(value, style) {
  if (typeof value === "string") {
    return value.startsWith("token:") ? style.getPropertyValue(`--${value.slice(6)}`).trim() : value;
  }
  if (Array.isArray(value)) return value.map((each) => resolve(each, style));
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, resolve(each, style)]));
  }
  return value;
}

/** Draw or redraw every chart of the page. */
function drawCharts() {
  if (typeof window.Plotly === "undefined") return;
  const style = getComputedStyle(document.documentElement);
  for (const element of document.querySelectorAll("[data-chart]")) {
    const source = document.getElementById(element.dataset.chart);
    if (!source || element.drawn === source.textContent) continue;
    element.drawn = source.textContent;
    const figure = resolve(JSON.parse(source.textContent), style);
    window.Plotly.react(element, figure.data, figure.layout, { displayModeBar: false, responsive: true });
  }
}

document.addEventListener("htmx:load", drawCharts);
drawCharts();
window.matchMedia("(prefers-color-scheme: light)").addEventListener("change", () => {
  for (const element of document.querySelectorAll("[data-chart]")) element.drawn = "";
  drawCharts();
});
