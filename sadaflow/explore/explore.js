"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const get = id => document.getElementById(id);
const slider = get("step"), chooser = get("group"), play = get("play");
const SVG = "http://www.w3.org/2000/svg";
const colour = label => `var(--r${data.labels.indexOf(label)})`;
let group, redraw = [], timer = null, generation = 0;

function made(parent, tag, attributes = {}, text = "") {
  const element = ["svg", "rect", "line", "path", "title"].includes(tag)
    ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text) element.textContent = text;
  parent.append(element);
  return element;
}

const steps = () => group.runs[0].modes.length;
const shown = value => value === null || value === undefined ? "–" : String(Number(value.toPrecision(4)));

/* An area whose width is the run's steps; a click goes to the step under the pointer. */
function timeline(parent, height, label) {
  const svg = made(parent, "svg", {viewBox: `0 0 ${steps()} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": label});
  svg.addEventListener("click", event => {
    const box = svg.getBoundingClientRect();
    go(Math.floor((event.clientX - box.left) / box.width * steps()));
  });
  return svg;
}

function cursor(svg, height) {
  const line = made(svg, "line", {class: "cursor", y1: 0, y2: height});
  redraw.push(step => { for (const end of ["x1", "x2"]) line.setAttribute(end, step + .5); });
}

function tile(sheet, image, step) {
  const column = step % sheet.columns, row = Math.floor(step / sheet.columns);
  return [image, column * sheet.width, row * sheet.height, sheet.width, sheet.height, 0, 0, sheet.width, sheet.height];
}

function pixels(run, image, step) {
  const canvas = document.createElement("canvas"), {width, height} = run.sheet;
  Object.assign(canvas, {width, height});
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.drawImage(...tile(run.sheet, image, step));
  return context.getImageData(0, 0, width, height);
}

function pictured(label, sheet) {
  const figure = made(get("pictures"), "figure"), canvas = made(figure, "canvas", {role: "img", "aria-label": label});
  Object.assign(canvas, {width: sheet.width, height: sheet.height});
  made(figure, "figcaption", {}, label).classList.add("run");
  return [canvas.getContext("2d"), made(figure, "figcaption")];
}

/* Greys the tokens that were not computed. */
function veil(context, mask, width, height) {
  context.fillStyle = "rgba(128, 132, 140, .75)";
  const high = height / mask.length, across = width / mask[0].length;
  mask.forEach((row, y) => row.forEach((computed, x) => {
    if (!computed) context.fillRect(x * across, y * high, across, high);
  }));
}

function drawPictures(images, runs) {
  runs.forEach((run, index) => {
    const [context, caption] = pictured(`x0, ${run.label}`, run.sheet);
    redraw.push(step => {
      context.drawImage(...tile(run.sheet, images[index], step));
      const mask = run.tokens[step];
      if (mask) veil(context, mask, run.sheet.width, run.sheet.height);
      caption.textContent = run.modes[step] + (mask ? `, ${mask.flat().filter(Boolean).length} of ${mask.flat().length} tokens` : "");
    });
    if (index === 0 || run.sheet.width !== runs[0].sheet.width || run.sheet.height !== runs[0].sheet.height) return;
    const [difference, note] = pictured(`difference of ${run.label}`, run.sheet);
    redraw.push(step => {
      const one = pixels(runs[0], images[0], step), other = pixels(run, images[index], step);
      let largest = 1, factor = 1;
      for (let i = 0; i < one.data.length; i++) if (i % 4 < 3) largest = Math.max(largest, Math.abs(one.data[i] - other.data[i]));
      while (factor < 64 && largest * factor * 2 <= 255) factor *= 2;
      for (let i = 0; i < one.data.length; i++) if (i % 4 < 3) other.data[i] = Math.abs(one.data[i] - other.data[i]) * factor;
      difference.putImageData(other, 0, 0);
      note.textContent = `amplified ${factor} times`;
    });
  });
}

function drawStrips() {
  for (const run of group.runs) {
    const row = made(get("strips"), "div", {class: "strip"});
    made(row, "span", {class: "run", title: run.label}, run.label);
    const svg = timeline(row, 10, `modes of ${run.label}`);
    svg.style.height = "18px";
    run.modes.forEach((mode, step) => {
      const box = made(svg, "rect", {x: step, y: 0, width: 1.01, height: 10, fill: data.modes[mode].colour});
      made(box, "title", {}, `step ${step}: ${mode}`);
    });
    cursor(svg, 10);
  }
  const used = new Set(group.runs.flatMap(run => run.modes));
  for (const [mode, {colour: fill, meaning}] of Object.entries(data.modes)) if (used.has(mode)) {
    const entry = made(get("key"), "li");
    made(entry, "i").style.background = fill;
    entry.append(meaning);
  }
}

/* A logarithmic axis where all values are positive and span more than one decade. */
function axis(values) {
  const low = Math.min(...values), high = Math.max(...values);
  const log = low > 0 && high / low > 10, at = log ? Math.log : value => value;
  const span = at(high) - at(low) || 1;
  return {low, high, log, y: value => 96 - 92 * (at(value) - at(low)) / span};
}

function drawCharts() {
  for (const name of new Set(group.runs.flatMap(run => Object.keys(run.curves)))) {
    const runs = group.runs.filter(run => run.curves[name]);
    const levels = runs.map(run => run.thresholds[name]).filter(level => level !== undefined);
    const values = [...runs.flatMap(run => run.curves[name]), ...levels].filter(value => value !== null);
    if (!values.length) continue;
    const scale = axis(values), chart = made(get("charts"), "div", {class: "chart"});
    made(made(chart, "h2", {}, name), "small", {}, `${shown(scale.low)} to ${shown(scale.high)}${scale.log ? ", logarithmic" : ""}`);
    const svg = timeline(chart, 100, `${name} at each step`);
    for (const level of levels) made(svg, "line", {class: "level", x1: 0, x2: steps(), y1: scale.y(level), y2: scale.y(level)});
    for (const run of runs) {
      const line = made(svg, "path", {d: path(run.curves[name], scale.y), stroke: colour(run.label)});
      made(line, "title", {}, run.label);
    }
    cursor(svg, 100);
    const ends = made(chart, "div", {class: "ends"});
    made(ends, "span", {}, "noise"), made(ends, "span", {}, "image");
  }
}

/* Joins values of neighbouring steps; a value without neighbours is a short dash. */
function path(values, y) {
  return values.map((value, step) => {
    if (value === null) return "";
    const joined = step > 0 && values[step - 1] !== null;
    const alone = !joined && (step + 1 === values.length || values[step + 1] === null);
    return alone ? `M${step + .3} ${y(value)}h.4` : `${joined ? "L" : "M"}${step + .5} ${y(value)}`;
  }).join("");
}

function drawFacts() {
  const head = made(get("head"), "tr");
  made(head, "th", {scope: "col"}, "");
  group.runs.forEach(run => made(head, "th", {scope: "col"}, run.label).style.color = colour(run.label));
  const names = new Set(group.runs.flatMap(run => [...Object.keys(run.facts), ...Object.keys(run.curves)]));
  for (const name of ["mode", ...names]) {
    const row = made(get("facts"), "tr");
    made(row, "td", {}, name);
    for (const run of group.runs) {
      const cell = made(row, "td"), values = run.facts[name] || run.curves[name] || [];
      redraw.push(step => { cell.textContent = name === "mode" ? run.modes[step] : shown(values[step]); });
    }
  }
}

function go(step) {
  step = Math.max(0, Math.min(steps() - 1, step));
  slider.value = step;
  get("count").textContent = `step ${step} of ${steps() - 1}`;
  for (const draw of redraw) draw(step);
}

async function open(index) {
  const turn = ++generation;
  group = data.groups[index];
  redraw = [];
  for (const id of ["pictures", "strips", "key", "charts", "head", "facts"]) get(id).replaceChildren();
  slider.max = steps() - 1;
  const runs = group.runs.filter(run => run.sheet);
  const images = await Promise.all(runs.map(async run => {
    const image = new Image();
    image.src = run.sheet.png;
    await image.decode();
    return image;
  }));
  if (turn !== generation) return;  // another group was chosen meanwhile
  drawPictures(images, runs), drawStrips(), drawCharts(), drawFacts();
  go(Math.min(Number(slider.value), steps() - 1));
  document.body.dataset.ready = String(index);
}

function toggle() {
  const running = timer !== null;
  play.textContent = running ? "Play" : "Pause";
  play.setAttribute("aria-pressed", String(!running));
  if (running) { clearInterval(timer); timer = null; return; }
  if (Number(slider.value) >= steps() - 1) go(0);
  timer = setInterval(() => {
    go(Number(slider.value) + 1);
    if (Number(slider.value) >= steps() - 1) toggle();
  }, 120);
}

data.groups.forEach((one, index) => made(chooser, "option", {value: index}, one.name));
get("choice").hidden = data.groups.length < 2;
chooser.addEventListener("change", () => open(Number(chooser.value)));
slider.addEventListener("input", () => go(Number(slider.value)));
play.addEventListener("click", toggle);
addEventListener("keydown", event => {
  if (event.target !== document.body) return;  // the slider and the menu have keys of their own
  const to = {ArrowLeft: Number(slider.value) - 1, ArrowRight: Number(slider.value) + 1, Home: 0, End: steps() - 1}[event.key];
  if (to !== undefined) { go(to); event.preventDefault(); }
});
open(0);
