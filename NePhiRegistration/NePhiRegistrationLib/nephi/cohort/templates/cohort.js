"use strict";
// Sorts and filters the rows that are in the page. Each row is read once; then only its place and visibility change.
const table = document.getElementById("pairs"), body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
const words = document.getElementById("words"), outliers = document.getElementById("outliers");
const chips = [...document.querySelectorAll(".chip[data-state]")];
const titles = heads.map(head => head.textContent.trim().toLowerCase());
const rows = [...body.rows].map((element, order) => ({
  element, order, state: element.dataset.state, text: element.textContent.toLowerCase(),
  outlier: element.querySelector(".outlier") !== null,
  values: [...element.cells].map((cell, column) =>
    heads[column].querySelector("[data-kind=text]") ? cell.firstElementChild.textContent
      : cell.dataset.value ? Number(cell.dataset.value) : null),
}));
const alphabet = new Intl.Collator(undefined, { numeric: true });

function sort(column) {
  const down = heads[column].getAttribute("aria-sort") === "ascending";
  heads.forEach(head => head.removeAttribute("aria-sort"));
  heads[column].setAttribute("aria-sort", down ? "descending" : "ascending");
  const sign = down ? -1 : 1;
  rows.sort((a, b) => {
    const x = a.values[column], y = b.values[column];
    if (x === null || y === null) return (x === null) - (y === null) || a.order - b.order; // what is missing comes last
    return sign * (typeof x === "string" ? alphabet.compare(x, y) : x - y) || a.order - b.order;
  });
  body.append(...rows.map(row => row.element));
}

function wanted(query) {
  const compared = query.match(/^(.+?)\s*([<>])\s*(-?[\d.]+(?:e-?\d+)?)$/);
  const column = compared ? titles.findIndex(title => title.startsWith(compared[1])) : -1;
  if (column < 0) return row => row.text.includes(query);
  const limit = Number(compared[3]);
  return row => typeof row.values[column] === "number"
    && (compared[2] === "<" ? row.values[column] < limit : row.values[column] > limit);
}

function filter() {
  const pressed = chips.filter(chip => chip.ariaPressed === "true").map(chip => chip.dataset.state);
  const fits = wanted(words.value.trim().toLowerCase()), far = outliers.ariaPressed === "true";
  let shown = 0;
  for (const row of rows) {
    const visible = (!pressed.length || pressed.includes(row.state)) && (!far || row.outlier) && fits(row);
    if (row.element.hidden === visible) row.element.hidden = !visible;
    shown += visible;
  }
  document.getElementById("shown").textContent = shown === rows.length ? `${shown} pairs` : `${shown} of ${rows.length} pairs`;
  document.getElementById("none").hidden = shown > 0;
}

heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => sort(column)));
words.addEventListener("input", filter);
for (const chip of [...chips, outliers]) chip.addEventListener("click", () => {
  chip.ariaPressed = String(chip.ariaPressed !== "true");
  filter();
});
body.addEventListener("click", event => {
  const row = event.target.closest("tr[data-href]");
  if (row && !event.target.closest("a") && !String(getSelection())) location.href = row.dataset.href;
});
document.querySelector(".spread")?.addEventListener("click", event => {
  if (!event.target.closest("a")) return;
  words.value = "";
  for (const chip of [...chips, outliers]) chip.ariaPressed = "false";
  filter(); // the row that is led to is shown
});
