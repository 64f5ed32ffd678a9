// Hides and shows curves, reads values and sorts tables. Figures come drawn, and with every value as a text.
"use strict";

// ---- curves

const hidden = new Set(); // names of curves switched off, on the whole page
const toggles = [...document.querySelectorAll("[data-name]")];

for (const toggle of toggles) {
  toggle.addEventListener("click", () => {
    const { name } = toggle.dataset;
    if (!hidden.delete(name)) hidden.add(name);
    show();
  });
}

// A curve of several strategies goes with the last of them, a crossing with the first.
function show() {
  for (const part of document.querySelectorAll("[data-names]")) {
    const off = (name) => hidden.has(name);
    const names = part.dataset.names.split(",");
    part.classList.toggle("off", part.matches(".crossing") ? names.some(off) : names.every(off));
  }
  for (const toggle of toggles) toggle.setAttribute("aria-pressed", !hidden.has(toggle.dataset.name));
  readers.forEach((reader) => reader.read());
}

// ---- values

class Reader {
  constructor(figure) {
    this.picture = figure.querySelector("svg");
    this.readout = figure.querySelector(".readout");
    this.cursors = this.picture.querySelectorAll(".cursor");
    const { place, positions, columns } = this.picture.dataset;
    this.place = place;
    this.positions = positions.split(" ");
    this.columns = columns.split(" ").map(Number);
    this.panels = [...this.picture.querySelectorAll(".panel")].map((panel) => ({
      title: panel.dataset.title,
      curves: [...panel.querySelectorAll("[data-values]")].map((curve) => ({
        curve,
        name: curve.dataset.names.replaceAll(",", ", "),
        values: curve.dataset.values.split("|"),
      })),
    }));
    this.at = null; // the place of the position read among all positions
    this.become("slider");
    for (const event of ["pointermove", "pointerdown"]) this.picture.addEventListener(event, (e) => this.point(e));
    this.picture.addEventListener("keydown", (event) => this.key(event));
  }

  // An image that can be focused, without the title that would stand at the pointer everywhere.
  become(role) {
    const title = this.picture.querySelector("title");
    const named = { role, tabindex: 0, "aria-label": `${title.textContent}; arrow keys read values` };
    for (const [name, value] of Object.entries(named)) this.picture.setAttribute(name, value);
    title.remove();
  }

  shown({ curves }) {
    return curves.filter(({ curve }) => !curve.matches(".off"));
  }

  // Positions, by their places, where a curve that is shown has a value.
  places() {
    const values = this.panels.flatMap((panel) => this.shown(panel)).map((curve) => curve.values);
    return [...this.positions.keys()].filter((at) => values.some((texts) => texts[at]));
  }

  // Panels with a value there, each with its title and all values.
  values(at) {
    const found = this.panels.map((panel) => [panel.title, ...this.shown(panel).flatMap(({ name, values }) => (values[at] ? `${name} ${values[at]}` : []))]);
    return found.filter((panel) => panel.length > 1);
  }

  point({ clientX, clientY }) {
    const { x } = new DOMPoint(clientX, clientY).matrixTransform(this.picture.getScreenCTM().inverse());
    const away = (at) => Math.abs(this.columns[at] - x);
    const places = this.places();
    this.at = places.reduce((best, at) => (away(at) < away(best) ? at : best), places[0]) ?? null;
    this.read();
  }

  key(event) {
    const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 16, PageDown: -16, Home: -Infinity, End: Infinity };
    const step = steps[event.key];
    const places = this.places();
    if (step === undefined || !places.length) return;
    event.preventDefault();
    const now = this.at === null ? places.length - 1 : places.indexOf(this.at);
    this.at = places[Math.min(Math.max(now + step, 0), places.length - 1)];
    this.read();
  }

  read() {
    const { picture, positions, place } = this;
    const panels = this.at === null ? [] : this.values(this.at);
    if (!panels.length) this.at = null;
    const at = this.at ?? positions.length - 1;
    const text = panels.length ? `${place} ${positions[at]}` : "no position read";
    const range = { min: positions[0], max: positions[positions.length - 1], now: positions[at], text: [text, ...panels.flat()].join(", ") };
    for (const [name, value] of Object.entries(range)) picture.setAttribute(`aria-value${name}`, value);
    for (const cursor of this.cursors) {
      cursor.setAttribute("display", panels.length ? "inline" : "none");
      cursor.setAttribute("transform", `translate(${this.columns[at]})`);
    }
    const hint = [["Point at the figure, or focus it and use the arrow keys, to read its values."]];
    const lines = panels.length ? panels.map(([title, ...values]) => [`${title}, ${text}:`, ...values]) : hint;
    this.readout.replaceChildren(...lines.map((line) => element("p", ...line.map((words) => element("span", words)))));
  }
}

function element(tag, ...children) {
  const made = document.createElement(tag);
  made.append(...children);
  return made;
}

const drawn = [...document.querySelectorAll("figure")].filter((figure) => figure.querySelector("[data-positions]"));
const readers = drawn.map((figure) => new Reader(figure));

// ---- tables

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

// ---- groups

const groups = [...document.querySelectorAll("section.group")];
const choice = document.getElementById("group");

function choose() {
  groups.forEach((group, i) => (group.hidden = i !== choice.selectedIndex));
}

choice.addEventListener("change", choose);
choice.parentElement.hidden = groups.length < 2;
choose();
show();
