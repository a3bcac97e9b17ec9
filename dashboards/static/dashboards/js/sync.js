/**
 * Sliders follow the field they belong to, and the other way round. The field is what is
 * submitted; the slider names it in data-slides. Changing a slider is an input event of the field.
 */
/** The slider of `field`, if it has one. */
function sliderOf(field) {
  return field.id ? document.querySelector(`[data-slides="${CSS.escape(field.id)}"]`) : null;
}

document.addEventListener("input", (event) => {
  const slides = event.target.dataset?.slides;
  if (slides) {
    const field = document.getElementById(slides);
    if (field.value === event.target.value) return;
    field.value = event.target.value;
    field.dispatchEvent(new Event("input", { bubbles: true }));
    return;
  }
  const slider = sliderOf(event.target);
  if (slider && event.target.value.trim() && Number.isFinite(Number(event.target.value))) slider.value = event.target.value;
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-reset]");
  if (!button) return;
  const field = document.getElementById(button.dataset.reset);
  field.value = button.dataset.value;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  field.focus();
});

document.addEventListener("change", (event) => {
  if (event.target.name !== "section") return;
  const url = new URL(window.location.href);
  url.searchParams.set("section", event.target.value);
  window.history.replaceState(window.history.state, "", url);
});
