// The tables of agents and families, which a viewer sorts and filters.

import { bar, byId, isEmpty, keep, piece, say } from "./document.js";
import { age, compare, count, FRESH_SECONDS, NONE, plural, share } from "./figures.js";

// A table that is sorted by the buttons in its head: first by the largest figure or the first name. Rows with the same
// rank are in the order of their names, so that a figure that changes each second moves no row.
class SortedTable {
  constructor(id, { keyOf, cells, matches = () => true, counted, rankOf = (row, key) => row[key] }) {
    Object.assign(this, { table: byId(id), keyOf, cells, matches, counted, rankOf, rows: [], known: 0 });
    const sorted = this.table.querySelector("[aria-sort]");
    this.key = sorted.dataset.key;
    this.down = sorted.ariaSort === "descending";
    for (const head of this.table.querySelectorAll("th[data-key]")) {
      head.firstElementChild.addEventListener("click", () => this.sortBy(head));
    }
  }

  show(rows, known) {
    Object.assign(this, { rows, known });
    this.draw();
  }

  sortBy(head) {
    const { key } = head.dataset;
    this.down = this.key === key ? !this.down : key !== "agent" && key !== "name" && key !== "type";
    this.key = key;
    for (const each of this.table.querySelectorAll("[aria-sort]")) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", this.down ? "descending" : "ascending");
    this.draw();
  }

  draw() {
    const rank = (row) => this.rankOf(row, this.key);
    const order = (one, other) => compare(rank(one), rank(other)) * (this.down ? -1 : 1) || compare(this.keyOf(one), this.keyOf(other));
    const shown = this.rows.filter(this.matches).sort(order);
    keep(this.table.tBodies[0], shown, this.keyOf, () => piece("tr"), (row, item) => drawCells(row, this.cells(item)));
    isEmpty(this.table.id, shown);
    say(byId(`${this.table.id}-count`), this.counted(shown.length, this.rows.length, this.known));
  }
}

// A cell is a text, or a function that draws it and the words whose change redraws it.
function drawCells(row, cells) {
  cells.forEach(({ text, className = "", header = false, make }, index) => {
    let cell = row.cells[index];
    if (!cell) {
      cell = piece(header ? "th" : "td");
      if (header) cell.scope = "row";
      row.append(cell);
    }
    if (cell.className !== className) cell.className = className;
    if (make && cell.dataset.words !== text) {
      cell.dataset.words = text;
      cell.replaceChildren(make());
    } else if (!make) say(cell, text);
    if (header) cell.title = text;
  });
}

const counted = (one, many) => (shown, given, known) => {
  if (!known) return "";
  if (shown < given) return `${count(shown)} of ${plural(known, one, many)}`;
  return given < known ? `${count(given)} of ${plural(known, one, many)}` : plural(known, one, many);
};

const number = (value) => ({ text: count(value), className: value ? "number" : "number zero" });

export const agents = new SortedTable("agents", {
  keyOf: ({ agent }) => agent,
  rankOf: (row, key) => (key === "silent_seconds" ? Math.floor(row.silent_seconds / FRESH_SECONDS) : row[key]),
  cells: ({ agent, silent_seconds, rejected, dropped }) => [
    { text: agent, header: true },
    { text: age(silent_seconds), className: silent_seconds < FRESH_SECONDS ? "number" : "number late" },
    number(rejected),
    number(dropped),
  ],
  counted: counted("agent"),
});

export const families = new SortedTable("families", {
  keyOf: ({ name }) => name,
  matches: ({ name, type }) => name.includes(nameFilter.value.trim()) && (!typeFilter.value || type === typeFilter.value),
  cells: ({ name, type, series, used, budget, label, values, values_budget, overflowed }) => [
    { text: name, header: true, className: "code" },
    { text: type },
    { text: count(series), className: "number" },
    budgetCell(used, budget, budget ? `${count(used)} of ${count(budget)}` : "no limit"),
    budgetCell(values, values_budget, label && values_budget ? `${label}: ${count(values)} of ${count(values_budget)}` : ""),
    number(overflowed),
  ],
  counted: counted("family", "families"),
});

function budgetCell(part, all, words) {
  return all && words ? { text: words, make: () => bar(part, all, words) } : { text: words, make: () => piece("span", "dim", words || NONE) };
}

const [nameFilter, typeFilter] = [byId("families-name"), byId("families-type")];
for (const filter of [nameFilter, typeFilter]) filter.addEventListener("input", () => families.draw());
byId("families-filter").addEventListener("submit", (submission) => submission.preventDefault());

export const withShares = (row) => ({
  ...row,
  share: row.budget ? share(row.used, row.budget) : -1,
  label_share: row.values_budget ? share(row.values, row.values_budget) : -1,
});
