"use strict";

// Tables sort words alphabetically, and numbers by the first number in the cell; cells without a number stay last.
const number = (cell) => {
  const found = cell.textContent.match(/-?\d+(\.\d+)?(e[+-]?\d+)?/i);
  return found ? Number(found[0]) : NaN;
};

function compare(a, b, words, sign) {
  if (words) return sign * a.textContent.localeCompare(b.textContent, "en", { numeric: true });
  const [x, y] = [number(a), number(b)];
  if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
  return sign * (x - y);
}

for (const head of document.querySelectorAll("th")) {
  head.firstChild.addEventListener("click", () => {
    const descending = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const body = head.closest("table").tBodies[0];
    const words = head.classList.contains("word");
    const at = head.cellIndex;
    body.append(...[...body.rows].sort((a, b) => compare(a.cells[at], b.cells[at], words, descending ? -1 : 1)));
  });
}

// The tip shows what the element under the pointer stands for.
const tip = document.getElementById("tip");
const samples = JSON.parse(document.getElementById("samples").textContent);

function show(text, event) {
  tip.textContent = text;
  tip.hidden = !text;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.min(event.clientX + 14, innerWidth - width - 8)}px`;
  tip.style.top = `${event.clientY + 18 + height > innerHeight ? event.clientY - height - 10 : event.clientY + 18}px`;
}

const pixels = new Map();

function mode(strip, column, row) {
  if (!pixels.has(strip)) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [strip.naturalWidth, strip.naturalHeight];
    const pen = canvas.getContext("2d");
    pen.drawImage(strip, 0, 0);
    pixels.set(strip, pen.getImageData(0, 0, canvas.width, canvas.height).data);
  }
  const at = 4 * (row * strip.naturalWidth + column);
  const shade = [...pixels.get(strip).slice(at, at + 3)].map((value) => value.toString(16).padStart(2, "0")).join("");
  return strip.closest("details").querySelector(`[data-colour="#${shade}"]`)?.textContent ?? "not measured";
}

document.addEventListener("pointermove", (event) => {
  const over = event.target;
  if (over.dataset?.tip) return show(over.dataset.tip, event);
  if (!over.classList?.contains("strip") || !over.closest(".strips")) return (tip.hidden = true);
  const box = over.getBoundingClientRect();
  const [across, down] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  const column = Math.min(Math.max(Math.floor(across * over.naturalWidth), 0), over.naturalWidth - 1);
  const row = Math.min(Math.max(Math.floor(down * over.naturalHeight), 0), over.naturalHeight - 1);
  show(`step ${column}: ${mode(over, column, row)}\n${samples[over.closest(".strips").dataset.case][row]}`, event);
});

// The method under the pointer is highlighted in its chart.
for (const method of document.querySelectorAll(".method")) {
  const light = (on) => {
    method.classList.toggle("lit", on);
    method.closest("svg").classList.toggle("dimmed", on);
  };
  method.addEventListener("pointerenter", () => light(true));
  method.addEventListener("pointerleave", () => light(false));
}

// A point of a chart opens the pictures and modes of its setting.
const viewer = document.getElementById("viewer");

function view(point) {
  const { setting, tip: numbers } = point.dataset;
  const figures = [...point.closest("section").querySelectorAll("figure[data-setting]")];
  const shown = figures.filter((figure) => figure.dataset.setting === setting).map((figure) => figure.cloneNode(true));
  document.getElementById("viewed").textContent = setting;
  document.getElementById("numbers").textContent = numbers.split("\n").slice(1).join("; ");
  document.getElementById("shown").replaceChildren(...shown.reverse());
  tip.hidden = true;
  viewer.showModal();
}

for (const point of document.querySelectorAll("circle[data-setting]")) {
  point.addEventListener("click", () => view(point));
  point.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    view(point);
  });
}
viewer.addEventListener("click", (event) => event.target === viewer && viewer.close());

// The menu opens what it leads to.
const parts = [...document.querySelectorAll("details.part, details.table")];
document.getElementById("unfold").addEventListener("click", () => parts.forEach((part) => (part.open = true)));
document.getElementById("fold").addEventListener("click", () => parts.forEach((part) => (part.open = false)));
for (const link of document.querySelectorAll("nav a")) {
  link.addEventListener("click", () => (document.querySelector(`${link.hash} > details`).open = true));
}
