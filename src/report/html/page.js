// Draws the plots of the page and sorts its tables. Nothing is computed here but places, ticks and
// rounded digits: medians and intervals come with the page.
"use strict";

const { styles, panels } = JSON.parse(document.getElementById("plots").textContent);
const hidden = new Set(); // names of strategies switched off, on the whole page

// ---- elements

function svg(tag, attributes, parent, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  parent?.append(element);
  return element;
}

function sample(name) {
  const { color, dashes, marker } = styles[name];
  const picture = svg("svg", { viewBox: "0 0 34 12", "aria-hidden": "true" });
  svg("path", { class: "curve", d: "M0,6H34", stroke: color, "stroke-dasharray": dashes }, picture);
  svg("path", { d: marker, fill: color, transform: "translate(17 6)" }, picture);
  return picture;
}

// ---- numbers

// Three digits that count, as the report prints them.
function digits(x) {
  const size = Math.abs(x);
  if (size < 0.9995e-2 && size > 0) return x.toExponential(1).replace("e+", "e");
  const limits = [0.09995, 0.9995, 9.995, 99.95];
  const at = limits.findIndex((limit) => size < limit);
  return Number.isInteger(x) ? String(x) : x.toFixed(at < 0 ? 0 : 4 - at);
}

function unitOf(value, units) {
  return units.find(([, size]) => Math.abs(value) >= size * 0.9995) ?? units[units.length - 1];
}

// `11.2 [9.80, 11.5] ms`, in the unit that fits the first.
function show(units, value, lo, hi) {
  const [unit, size] = unitOf(value, units);
  const interval = lo === undefined ? "" : ` [${digits(lo / size)}, ${digits(hi / size)}]`;
  return `${digits(value / size)}${interval} ${unit}`.trim();
}

function tickText(units, value) {
  const [unit, size] = unitOf(value, units);
  return value === 0 ? "0" : `${Number((value / size).toFixed(6))} ${unit}`.trim().replace(" ×", "×");
}

// ---- axes

const ZERO = 0.09; // share of a logarithmic axis that belongs to zero, where there is a zero

function axisOf(values, log, measure, pixels, label) {
  const finite = values.filter((value) => Number.isFinite(value));
  const positive = finite.filter((value) => value > 0);
  if (!positive.length || !log) {
    const [least, most] = positive.length ? extremes(finite) : [0, 1];
    const span = most > least ? most - least : Math.max(Math.abs(most), 1) * 0.2;
    const pad = most > least ? 0.04 * span : span; // around one value, so that its ticks are short
    const [lo, hi] = [least === 0 ? 0 : least - pad, most + pad];
    const place = (value) => ((value - lo) / (hi - lo)) * pixels;
    return { place, ticks: linearTicks(lo, hi, pixels / label, measure) };
  }
  const zero = finite.includes(0) ? ZERO : 0;
  let [lo, hi] = extremes(positive);
  const pad = hi / lo < 1.001 ? 1.2 : (hi / lo) ** 0.03;
  [lo, hi] = [lo / pad, hi * pad];
  const share = (value) => Math.log(value / lo) / Math.log(hi / lo);
  const place = (value) => (value <= 0 ? zero * 0.25 : zero + (1 - zero) * share(value)) * pixels;
  const found = logTicks(lo, hi, pixels / label, measure);
  const ticks = found.length < 2 ? linearTicks(lo, hi, pixels / label, measure) : found;
  return { place, ticks: zero ? [0, ...ticks] : ticks };
}

function extremes(values) {
  return values.reduce(([lo, hi], value) => [Math.min(lo, value), Math.max(hi, value)], [Infinity, -Infinity]);
}

function linearTicks(lo, hi, most, measure) {
  const least = (hi - lo) / most;
  const power = measure.binary ? 2 ** Math.floor(Math.log2(least)) : 10 ** Math.floor(Math.log10(least));
  const step = (measure.binary ? [1, 2] : [1, 2, 5, 10]).map((m) => m * power).find((m) => m >= least);
  const whole = measure.units[0][0] === "" ? Math.max(step, 1) : step;
  const ticks = [];
  for (let i = Math.ceil(lo / whole); i * whole <= hi; i += 1) ticks.push(i * whole);
  return ticks;
}

// The finest ladder whose rungs have room.
function logTicks(lo, hi, most, measure) {
  const inside = (ticks) => ticks.filter((tick) => tick >= lo && tick <= hi);
  const rungs = (base, digits, from, to) => {
    const all = [];
    for (let k = Math.floor(from); k <= Math.ceil(to); k += 1) all.push(...digits.map((d) => d * base ** k));
    return inside(all);
  };
  const log = (value, base) => Math.log(value) / Math.log(base);
  const decades = [[1, 1.5, 2, 3, 4, 5, 7], [1, 2, 3, 5, 7], [1, 2, 5], [1, 3], [1]];
  const ladders = measure.binary
    ? [2, 4, 8, 32, 1024].map((base) => rungs(base, [1], log(lo, base), log(hi, base)))
    : decades.map((digits) => rungs(10, digits, Math.log10(lo), Math.log10(hi)));
  return ladders.find((ticks) => ticks.length <= most) ?? ladders[ladders.length - 1];
}

// ---- one plot

const LEFT = 64;
const RIGHT = 14;
const TOP = 10;
const BOTTOM = 44;
const MARKERS = 80; // pixels between the markers of a dense curve

class Plot {
  constructor(figure) {
    this.panel = panels[Number(figure.dataset.plot)];
    this.log = { x: this.panel.x.log, y: this.panel.y.log };
    this.picture = figure.querySelector("svg");
    this.readout = figure.querySelector(".readout");
    this.buttons = figure.querySelectorAll("[data-axis]");
    this.at = null; // the position read
    for (const button of this.buttons) {
      button.addEventListener("click", () => {
        this.log[button.dataset.axis] = !this.log[button.dataset.axis];
        this.draw();
      });
    }
    this.picture.addEventListener("pointermove", (event) => this.point(event));
    this.picture.addEventListener("pointerdown", (event) => this.point(event));
    this.picture.addEventListener("keydown", (event) => this.key(event));
  }

  shown() {
    return this.panel.curves.filter((curve) => !hidden.has(curve.name));
  }

  draw() {
    const { panel, picture, log } = this;
    this.width = picture.clientWidth;
    this.height = picture.clientHeight;
    if (!this.width) return; // in a group that is not shown
    for (const button of this.buttons) {
      const axis = button.dataset.axis;
      button.textContent = `${axis === "x" ? "positions" : "values"}: ${log[axis] ? "log" : "linear"}`;
    }
    picture.replaceChildren();
    picture.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    const curves = this.shown();
    const pieces = curves.flatMap((curve) => curve.pieces);
    const points = pieces.flatMap((piece) => piece.points);
    this.positions = [...new Set(points.map(([x]) => x))].sort((a, b) => a - b);
    const banded = pieces.flatMap((piece) => piece.pooled ?? piece.points); // only these show intervals
    const heights = banded.flatMap((point) => point.slice(1)).concat(points.map(([, y]) => y));
    heights.push(...curves.flatMap((curve) => curve.others.map(([, y]) => y)));
    if (panel.rule) heights.push(panel.rule[0]);
    this.x = axisOf(this.positions, log.x, panel.x, this.width - LEFT - RIGHT, 52);
    this.y = axisOf(heights, log.y, panel.y, this.height - TOP - BOTTOM, 36);
    this.drawAxes();
    panel.curves.forEach((curve, index) => this.drawCurve(curve, index));
    this.drawCrossings();
    this.drawRule();
    this.cursor = svg("path", { class: "cursor" }, picture);
    this.read();
  }

  column(x) {
    return LEFT + this.x.place(x);
  }

  row(y) {
    return this.height - BOTTOM - this.y.place(y);
  }

  path(points, of = (point) => point[1]) {
    const corner = (point) => `${this.column(point[0]).toFixed(1)},${this.row(of(point)).toFixed(1)}`;
    return points.map(corner).join("L");
  }

  drawAxes() {
    const { panel, picture, width, height } = this;
    const [right, bottom] = [width - RIGHT, height - BOTTOM];
    for (const tick of this.y.ticks) {
      const y = this.row(tick).toFixed(1);
      svg("path", { class: "grid", d: `M${LEFT},${y}H${right}` }, picture);
      svg("text", { x: LEFT - 6, y, "text-anchor": "end", dy: "0.35em" }, picture, tickText(panel.y.units, tick));
    }
    for (const tick of this.x.ticks) {
      const x = this.column(tick).toFixed(1);
      svg("path", { class: "grid", d: `M${x},${TOP}V${bottom}` }, picture);
      svg("text", { x, y: bottom + 17, "text-anchor": "middle" }, picture, tickText(panel.x.units, tick));
    }
    svg("path", { class: "frame", d: `M${LEFT},${TOP}V${bottom}H${right}` }, picture);
    const title = width < 500 ? panel.x_title.split(" (")[0] : panel.x_title;
    svg("text", { x: (LEFT + right) / 2, y: height - 8, "text-anchor": "middle" }, picture, title);
  }

  drawRule() {
    if (!this.panel.rule) return;
    const [value, what] = this.panel.rule;
    const y = this.row(value);
    svg("path", { class: "rule", d: `M${LEFT},${y}H${this.width - RIGHT}` }, this.picture);
    svg("text", { class: "rule-name", x: LEFT + 5, y: y - 5 }, this.picture, what);
  }

  drawCurve(curve, index) {
    const { color, dashes, marker } = styles[curve.name];
    const group = svg("g", { "data-strategy": curve.name }, this.picture);
    if (hidden.has(curve.name)) {
      group.setAttribute("display", "none");
      return;
    }
    for (const { points, pooled } of curve.pieces) {
      const line = pooled ?? points;
      const band = line.filter((point) => point.length === 4);
      if (band.length) {
        const upper = this.path(band, (point) => point[3]);
        const lower = this.path(band.toReversed(), (point) => point[2]);
        svg("path", { class: "band", d: `M${upper}L${lower}Z`, fill: color }, group);
      }
      for (const [x, , lo, hi] of pooled ? [] : band) {
        svg("path", { class: "whisker", d: `M${this.path([[x, lo], [x, hi]])}`, stroke: color }, group);
      }
      if (pooled) svg("path", { class: "every", d: `M${this.path(points)}`, stroke: color }, group);
      svg("path", { class: "curve", d: `M${this.path(line)}`, stroke: color, "stroke-dasharray": dashes }, group);
      let next = line.length > 24 ? LEFT + (MARKERS * index) / this.panel.curves.length : 0;
      for (const [x, y] of line) {
        const at = this.column(x);
        if (at < next) continue;
        svg("path", { d: marker, fill: color, transform: `translate(${at.toFixed(1)} ${this.row(y).toFixed(1)})` }, group);
        if (line.length > 24) next = at + MARKERS;
      }
    }
    for (const [x, y] of curve.others) {
      const at = `translate(${this.column(x).toFixed(1)} ${this.row(y).toFixed(1)}) scale(1.5)`;
      svg("path", { class: "hollow", d: marker, stroke: color, transform: at }, group);
    }
    if (curve.fit) {
      const [[x0, y0], [x1, y1]] = curve.fit;
      const along = Array.from({ length: 33 }, (_, i) => [x0 * (x1 / x0) ** (i / 32), y0 * (y1 / y0) ** (i / 32)]);
      svg("path", { class: "fit", d: `M${this.path(along)}` }, group);
    }
  }

  drawCrossings() {
    for (const [lo, at, hi, y, text] of this.panel.crossings) {
      if (text.split(" ").some((word) => hidden.has(word))) continue;
      const [x, row] = [this.column(at), this.row(y)];
      const mark = svg("g", { class: "crossing" }, this.picture);
      svg("path", { d: `M${this.column(lo)},${row}H${this.column(hi)}M${x},${row - 6}l5,6l-5,6l-5,-6Z`, "stroke-width": 1.5 }, mark);
      svg("title", {}, mark, text);
    }
  }

  // ---- reading values

  point(event) {
    const left = this.picture.getBoundingClientRect().left;
    const away = (x) => Math.abs(this.column(x) - (event.clientX - left));
    this.at = this.positions.reduce((best, x) => (away(x) < away(best) ? x : best), this.positions[0]) ?? null;
    this.read();
  }

  key(event) {
    const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 16, PageDown: -16, Home: -Infinity, End: Infinity };
    const step = steps[event.key];
    if (step === undefined || !this.positions.length) return;
    event.preventDefault();
    const last = this.positions.length - 1;
    const now = this.at === null ? last : this.positions.indexOf(this.at);
    this.at = this.positions[Math.min(Math.max(now + step, 0), last)];
    this.read();
  }

  read() {
    const { picture, readout, positions, panel, at } = this;
    if (!positions.length) return readout.replaceChildren("No strategy is shown.");
    picture.setAttribute("aria-valuemin", positions[0]);
    picture.setAttribute("aria-valuemax", positions[positions.length - 1]);
    picture.setAttribute("aria-valuenow", at ?? positions[positions.length - 1]);
    if (!positions.includes(at)) {
      this.at = null;
      this.cursor.removeAttribute("d");
      picture.setAttribute("aria-valuetext", "no position read");
      return readout.replaceChildren();
    }
    this.cursor.setAttribute("d", `M${this.column(at).toFixed(1)},${TOP}V${this.height - BOTTOM}`);
    const items = this.shown().flatMap((curve) => this.valuesOf(curve).map((text) => [curve.name, text]));
    picture.setAttribute("aria-valuetext", `${at}: ${items.map(([name, text]) => `${name} ${text}`).join(", ")}`);
    const spans = items.map(([name, text]) => {
      const span = document.createElement("span");
      span.append(sample(name), `${name} ${text}`);
      return span;
    });
    const place = document.createElement("strong");
    place.textContent = `${panel.x_title.split(" (")[0]} ${at}`;
    readout.replaceChildren(place, ...spans);
  }

  valuesOf(curve) {
    const points = curve.pieces.flatMap((piece) => piece.points).filter(([x]) => x === this.at);
    const others = curve.others.filter(([x]) => x === this.at);
    const units = this.panel.y.units;
    return points
      .map(([, ...figures]) => show(units, ...figures))
      .concat(others.map(([, y]) => `${show(units, y)} timed as one`));
  }
}

// ---- the page

const plots = [...document.querySelectorAll("figure")].map((figure) => new Plot(figure));
const draw = () => plots.forEach((plot) => plot.draw());

const toggles = [];
for (const bar of document.querySelectorAll(".toggles")) {
  const figures = [...bar.parentElement.querySelectorAll("figure")];
  const names = new Set(figures.flatMap((f) => panels[Number(f.dataset.plot)].curves.map((curve) => curve.name)));
  for (const name of names) {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.name = name;
    button.append(sample(name), name);
    button.addEventListener("click", () => {
      if (!hidden.delete(name)) hidden.add(name);
      press();
      draw();
    });
    bar.append(button);
    toggles.push(button);
  }
}

function press() {
  for (const button of toggles) button.setAttribute("aria-pressed", String(!hidden.has(button.dataset.name)));
}

const groups = [...document.querySelectorAll("section.group")];
const choice = document.getElementById("group");

function choose() {
  groups.forEach((group, i) => (group.hidden = i !== choice.selectedIndex));
  draw();
}

for (const table of document.querySelectorAll("table")) {
  const headers = [...table.querySelectorAll("th")];
  headers.forEach((header, column) => header.querySelector("button").addEventListener("click", () => sort(table, headers, column)));
}

// By number, then by text; cells that are empty come last either way.
function sort(table, headers, column) {
  const ascending = headers[column].getAttribute("aria-sort") !== "ascending";
  headers.forEach((header, i) => header.setAttribute("aria-sort", i !== column ? "none" : ascending ? "ascending" : "descending"));
  const cell = (row) => row.cells[column];
  const compare = (a, b) => {
    const [left, right] = [cell(a), cell(b)];
    if (!left.textContent || !right.textContent) return !left.textContent - !right.textContent;
    const [x, y] = [left, right].map((td) => (td.dataset.key === undefined ? NaN : Number(td.dataset.key)));
    const order = Number.isNaN(x - y) ? left.textContent.localeCompare(right.textContent, "en", { numeric: true }) : x - y;
    return ascending ? order : -order;
  };
  table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
}

press();
choice.addEventListener("change", choose);
choice.parentElement.hidden = groups.length < 2;
choose();
window.addEventListener("resize", draw);
