// Texts: the slider chooses the level, the boxes which models stand side by side.
const slider = document.getElementById("level");
if (slider) {
  const levels = [...document.querySelectorAll(".level")];
  const columns = [...document.querySelectorAll(".column")];
  const boxes = [...document.querySelectorAll(".beside")];
  const shown = document.getElementById("shown");
  const show = () => {
    levels.forEach((level, i) => { level.hidden = i !== Number(slider.value); });
    shown.textContent = levels[slider.value].dataset.amount;
    slider.setAttribute("aria-valuetext", `${shown.textContent} cut`);
    const wanted = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    columns.forEach((column) => { column.hidden = !wanted.has(column.dataset.curve); });
  };
  boxes.forEach((box) => box.addEventListener("change", show));
  document.querySelector(".choosing").hidden = boxes.length < 2;
  slider.addEventListener("input", show);
  show();
}
