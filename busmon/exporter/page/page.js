// The live page: draws each update of /overview/stream. Plain text goes into the document only as text, never as markup.
//
// In the order of this file: words for figures, pieces of the document, the sections, the drawing of the flow, tables,
// the theme, the stream.

const byId = (id) => document.getElementById(id);

// -- words for figures ------------------------------------------------------------------------------------------------

const NONE = "–";
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const decimal = new Intl.NumberFormat("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const short = new Intl.NumberFormat("en-US", { notation: "compact", maximumSignificantDigits: 3 });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

const count = (value) => (value == null ? NONE : Math.abs(value) < 1e6 ? whole.format(value) : short.format(value));
const tally = (value) => (value == null || Math.abs(value) < 1e4 ? count(value) : short.format(value));
const brief = (value) => (value > 0 && value < 10 ? decimal.format(value) : tally(value));
const rate = (value) => (value == null ? NONE : value > 0 && value < 10 ? decimal.format(value) : count(value));
const share = (part, all) => (all ? part / all : 0);
const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

function duration(seconds) {
  if (seconds == null) return [NONE, ""];
  if (seconds < 1) return [Number((seconds * 1000).toPrecision(3)).toString(), "ms"];
  return [Number(seconds.toPrecision(3)).toString(), "s"];
}

// A quantile in the histogram's first bucket is only known to be there.
function latency(seconds, least) {
  if (seconds == null || least == null || seconds > least) return duration(seconds);
  const [bound, unit] = duration(least);
  return [`< ${bound}`, unit];
}

function age(seconds) {
  if (seconds == null) return NONE;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

function bytes(size) {
  if (size < 1000) return `${size} B`;
  return size < 1e6 ? `${(size / 1000).toPrecision(3)} kB` : `${(size / 1e6).toPrecision(3)} MB`;
}

const spaced = (name) => name.replaceAll("_", " ");

// -- pieces of the document -------------------------------------------------------------------------------------------

function piece(tag, className = "", ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

function drawing(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// Text is replaced only where it changed, so that a selection and a screen reader's place survive an update.
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// One child for each item, in their order; a child is kept as long as its item's key is there.
function keep(parent, items, keyOf, make, update) {
  const before = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let next = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    const child = before.get(key) ?? make(item);
    child.dataset.key = key;
    before.delete(key);
    if (child === next) next = next.nextElementSibling;
    else parent.insertBefore(child, next);
    update(child, item);
  }
  for (const gone of before.values()) gone.remove();
}

function marked(severity, text) {
  const mark = piece("span", "mark");
  mark.setAttribute("aria-hidden", "true");
  const state = piece("span", "state", mark, text);
  state.dataset.severity = severity;
  return state;
}

function bar(part, all, words) {
  const full = share(part, all);
  const fill = piece("span");
  fill.style.inlineSize = `${Math.min(100, full * 100)}%`;
  fill.hidden = !part;
  const track = piece("span", "track", fill);
  track.setAttribute("aria-hidden", "true");
  const labelled = piece("span", "bar", track, piece("span", "", words));
  labelled.dataset.severity = severityOfFill(full);
  return labelled;
}

const severityOfFill = (full) => (full >= 1 ? "bad" : full >= 0.8 ? "fair" : "good");

// -- the sections -----------------------------------------------------------------------------------------------------

function draw(view) {
  say(byId("version"), view.version);
  drawHealth(view);
  drawReasons(view);
  drawStart(view);
  drawTiles(view);
  drawFlow(view);
  agents.show(view.agents, view.agents_known);
  families.show(view.families, view.families_known);
  drawRefused(view);
  drawRejected(view);
  drawDependencies(view);
}

const MAX_REASONS = 8;

function healthOf(view) {
  if (view.alive === "stopping") return ["fair", "Stopping"];
  if (view.alive !== "alive") return ["bad", "Dead"];
  if (!view.shards.length) return ["fair", "No fleet"];
  if (view.ready !== "ready") return ["bad", "Not ready"];
  return view.degraded.length ? ["fair", "Ready, degraded"] : ["good", "Ready"];
}

function drawHealth(view) {
  const [severity, word] = healthOf(view);
  const pill = byId("health");
  pill.dataset.severity = severity;
  say(pill.querySelector(".word"), word);
  document.title = `${word} · ${rate(view.rates.envelopes)}/s · busmon`;
}

function drawReasons(view) {
  const [health] = healthOf(view);
  const reasons = [...view.degraded, ...view.notices];
  const severity = health === "good" ? "fair" : health;
  const section = byId("reasons");
  section.dataset.severity = severity;
  section.hidden = !reasons.length;
  say(section.querySelector("h2"), severity === "bad" ? "What is wrong" : "Worth a look");
  const shown = reasons.slice(0, MAX_REASONS);
  if (reasons.length > shown.length) shown.push(`and ${count(reasons.length - shown.length)} more`);
  keep(section.querySelector("ul"), shown, (reason) => reason, () => piece("li"), say);
}

function drawStart(view) {
  byId("start").hidden = view.totals.samples > 0;
  byId("start-fleet").hidden = view.shards.length > 0;
  say(document.querySelector(".scrape-target"), new URL(view.scrape).host);
}

function drawTiles(view) {
  const { least } = view.latency;
  const [p50, p99] = [view.latency.p50, view.latency.p99].map((quantile) => latency(quantile, least).join(" ").trim());
  const depths = view.shards.map((shard) => shard.depth).filter((depth) => depth != null);
  const queued = depths.length ? depths.reduce((sum, depth) => sum + depth, 0) : null;
  const past = view.history;
  const tiles = [
    ["Envelopes per second", rate(view.rates.envelopes), past.envelopes, `${count(view.totals.envelopes)} in all`],
    ["Samples per second", rate(view.rates.samples), past.samples, `${count(view.totals.samples)} in all`],
    ["Latency, median", p50, past.p50, "publish to consume"],
    ["Latency, p99", p99, past.p99, "publish to consume"],
    ["Queued", count(queued), past.queued, plural(view.shards.length, "queue")],
    ["Not counted per second", rate(view.rates.refused), past.refused, `${count(refusedIn(view.totals))} in all`],
  ];
  keep(byId("tiles"), tiles, ([name]) => name, makeTile, (tile, [, value, values, note]) => {
    say(tile.querySelector(".figure"), value);
    say(tile.querySelector(".note"), note);
    drawSpark(tile.querySelector("svg"), past.seconds, values);
  });
}

function makeTile([name]) {
  const figure = piece("p", "figure");
  const spark = drawing("svg", { viewBox: "0 0 300 40", preserveAspectRatio: "none", "aria-hidden": "true" });
  spark.append(drawing("path", { class: "area" }), drawing("path", { class: "line" }));
  return piece("li", "tile", piece("h3", "", name), figure, piece("p", "note"), spark);
}

const SPARK_SECONDS = 300;

// From 0 to the peak, on an axis of time; a figure that isn't known is a gap.
function drawSpark(svg, seconds, values) {
  const peak = Math.max(...values.map((value) => value ?? 0), Number.MIN_VALUE);
  const runs = [[]];
  values.forEach((value, index) => {
    if (value == null) runs.push([]);
    else runs.at(-1).push([SPARK_SECONDS + seconds[index], 38 - (value / peak) * 34]);
  });
  const lines = runs.filter((run) => run.length > 1);
  const path = (run) => run.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L");
  const [area, line] = svg.children;
  line.setAttribute("d", lines.map((run) => `M${path(run)}`).join(""));
  area.setAttribute("d", lines.map((run) => `M${run[0][0]} 40L${path(run)}L${run.at(-1)[0]} 40Z`).join(""));
}

const sum = (counts) => Object.values(counts).reduce((total, value) => total + value, 0);
const refusedIn = (totals) => sum(totals.rejected) + sum(totals.quarantined) + totals.publisher_dropped;

function drawRefused(view) {
  const { totals } = view;
  const rows = [
    ...Object.entries(totals.rejected).map(([reason, value]) => ["Sample rejected", spaced(reason), value, "fair"]),
    ...Object.entries(totals.quarantined).map(([reason, value]) => ["Quarantined", spaced(reason), value, "fair"]),
    ...Object.entries(view.skipped).map(([file, reason]) => ["File skipped", `${file}: ${reason}`, null, "bad"]),
  ];
  if (totals.publisher_dropped) rows.push(["Dropped by agent", "buffer full", totals.publisher_dropped, "fair"]);
  const digits = ([, , value]) => String(Math.round(value ?? 0)).length;
  rows.sort((one, other) => digits(other) - digits(one) || compare(`${one[0]} ${one[1]}`, `${other[0]} ${other[1]}`));
  keep(byId("refused").tBodies[0], rows, ([what, reason]) => `${what} ${reason}`, makeRefused, (row, [, , value]) => {
    say(row.cells[2], value == null ? "" : count(value));
  });
  isEmpty("refused", rows);
  say(byId("refused-count"), totals.deduplicated ? `${plural(totals.deduplicated, "repeat")} recognised` : "");
}

// The last sample of each reason and agent, with what its publisher stated.
function drawRejected(view) {
  const section = byId("rejected");
  section.hidden = !view.rejected_samples.length;
  const keyOf = ({ reason, agent }) => `${reason} ${agent}`;
  keep(section.querySelector("ul"), view.rejected_samples, keyOf, makeRejected, (row, sample) => {
    const labels = Object.entries(sample.labels).map(([name, value]) => `${name}="${value}"`).join(", ");
    say(row.children[0], `${sample.name || NONE}${labels && `{${labels}}`} ${sample.value}`);
    say(row.children[1], `${sample.why}; from ${sample.agent}, ${age(sample.seconds_ago)} ago`);
  });
}

const makeRejected = () => piece("li", "", piece("p", "code"), piece("p", "dim"));

function makeRefused([what, reason, , severity]) {
  const head = piece("td", "", marked(severity, what));
  return piece("tr", "", head, piece("td", "wrap", reason), piece("td", "number"));
}

function isEmpty(id, rows) {
  const table = byId(id);
  table.hidden = !rows.length;
  table.nextElementSibling.hidden = rows.length > 0;
}

function drawDependencies(view) {
  const body = byId("dependencies").tBodies[0];
  const keyOf = ({ kind, name, state }) => `${kind} ${name} ${state}`;
  keep(body, view.dependencies, keyOf, makeDependency, (row, { age_seconds, detail }) => {
    say(row.cells[2], detail);
    say(row.cells[3], age_seconds == null ? "now" : age(age_seconds));
  });
  isEmpty("dependencies", view.dependencies);
}

function makeDependency({ name, state, severity }) {
  const head = piece("th", "", spaced(name));
  head.scope = "row";
  const word = { true: "yes", false: "no" }[state] ?? spaced(state);
  return piece("tr", "", head, piece("td", "", marked(severity, word)), piece("td", "wrap"), piece("td", "number"));
}

// -- the flow ---------------------------------------------------------------------------------------------------------

const MAX_QUEUES_DRAWN = 12;
const FRESH_SECONDS = 60;
const STATES = { consuming: "good", connecting: "fair", draining: "fair", blocked: "fair" };

// A lane is what is drawn in the column of queues: a shard's queue, or all queues of one worker where there are many.
function lanesOf(shards) {
  if (shards.length <= MAX_QUEUES_DRAWN) {
    return shards.map((shard) => ({ ...shard, key: `q${shard.shard}`, name: shard.queue, severity: STATES[shard.state] ?? "bad" }));
  }
  return grouped(shards).map(([worker, owned]) => ({
    key: `w${worker}`,
    worker,
    name: plural(owned.length, "queue"),
    state: worst(owned).state,
    severity: STATES[worst(owned).state] ?? "bad",
    depth: owned.reduce((total, shard) => total + (shard.depth ?? 0), 0),
    rate: owned.reduce((total, shard) => total + (shard.rate ?? 0), 0),
    p99: Math.max(...owned.map((shard) => shard.p99 ?? 0)) || null,
  }));
}

function grouped(shards) {
  const owned = new Map();
  for (const shard of shards) owned.set(shard.worker, [...(owned.get(shard.worker) ?? []), shard]);
  return [...owned];
}

const worst = (shards) => shards.find((shard) => shard.state !== "consuming") ?? shards[0];

function drawFlow(view) {
  const lanes = lanesOf(view.shards);
  const drawn = lanes.slice(0, MAX_QUEUES_DRAWN);
  const owners = new Set(drawn.map((lane) => lane.worker));
  const workers = view.workers.filter((worker) => owners.has(worker.worker) || view.workers.length <= MAX_QUEUES_DRAWN);
  say(byId("flow-note"), flowNote(view, lanes.length - drawn.length));
  nodes("flow-agents", [agentsNode(view)]);
  nodes("flow-exchange", [exchangeNode(view)]);
  nodes("flow-queues", drawn.length ? drawn.map((lane) => queueNode(lane, view.latency.least)) : [absent("no queue is consumed")]);
  nodes("flow-workers", workers.length ? workers.map(workerNode) : [absent("no worker runs")]);
  nodes("flow-registry", [registryNode(view), ...quarantineNodes(view)]);
  nodes("flow-scrape", [scrapeNode(view)]);
  edges = edgesOf(view, drawn, workers);
  drawEdges();
}

function flowNote(view, hidden) {
  const owners = `${plural(view.shards.length, "shard")}, ${plural(view.workers.length, "worker")}`;
  return hidden > 0 ? `${owners}; ${count(hidden)} workers’ queues are not drawn` : owners;
}

const absent = (words) => ({ key: "absent", title: words, lines: [], absent: true });

function agentsNode(view) {
  const lately = view.agents.filter((agent) => agent.silent_seconds < FRESH_SECONDS).length;
  const title = view.agents_known ? plural(view.agents_known, "agent") : "no agent yet";
  return { key: "agents", title, lines: [["last minute", count(lately)], ["publishing", `${rate(view.rates.envelopes)}/s`]] };
}

function exchangeNode(view) {
  const lines = [["type", "topic"]];
  if (view.shards.length > 1) lines.push(["spread by", "source"]);
  return { key: "exchange", title: view.exchange, code: true, lines };
}

function queueNode(lane, least) {
  const lines = [["queued", tally(lane.depth)], ["rate", `${brief(lane.rate)}/s`], ["p99", latency(lane.p99, least).join(" ").trim()]];
  return { ...lane, title: lane.name, code: true, lines, owner: lane.worker, words: lane.state };
}

function workerNode(worker) {
  const reconnects = sum(worker.reconnects);
  const lines = [["pid", String(worker.pid)], ["restarts", count(worker.restarts)]];
  if (reconnects) lines.push(["reconnects", count(reconnects)]);
  const words = worker.up ? `up ${age(worker.uptime_seconds)}` : `silent ${age(worker.beat_age_seconds)}`;
  return { key: `w${worker.worker}`, title: `worker ${worker.worker}`, lines, words, severity: worker.up ? "good" : "bad" };
}

function registryNode(view) {
  const { shown, used, budget } = view.series;
  const lines = [["families", count(view.families_known)], ["samples", count(view.totals.samples)]];
  return { key: "registry", title: plural(shown, "series", "series"), lines, bar: [used, budget, `${count(used)} of ${count(budget)}`] };
}

function quarantineNodes(view) {
  const ever = sum(view.totals.quarantined);
  if (!ever && !view.quarantined) return [];
  const lines = [["bodies now", count(view.quarantined)], ["ever", count(ever)]];
  const [words, severity] = view.quarantined == null ? ["unknown", "none"] : view.quarantined ? ["to be looked at", "fair"] : ["empty", "good"];
  return [{ key: "quarantine", title: "quarantine", lines, words, severity }];
}

function scrapeNode(view) {
  const last = view.scraped;
  if (!last) return { key: "scrape", title: "/metrics", code: true, lines: [["last", "never"]], words: "not scraped yet", severity: "fair" };
  const [took, unit] = duration(last.took_seconds);
  const lines = [["last", `${age(last.seconds_ago)} ago`], ["took", `${took} ${unit}`], ["size", bytes(last.size_bytes)]];
  return { key: "scrape", title: "/metrics", code: true, lines };
}

function nodes(id, items) {
  keep(byId(id), items, (item) => item.key, makeNode, (node, item) => {
    node.classList.toggle("absent", Boolean(item.absent));
    node.dataset.severity = item.severity ?? "none";
    say(node.querySelector(".title"), item.title);
    node.querySelector(".title").title = item.title;
    say(node.querySelector(".words"), item.words ?? "");
    say(node.querySelector(".owner"), item.owner == null ? "" : `worker ${item.owner}`);
    keep(node.querySelector("dl"), item.lines, ([name]) => name, makeLine, (line, [, value]) => say(line.lastChild, value));
    if (item.bar) node.querySelector(".fill").replaceChildren(bar(...item.bar));
  });
}

function makeNode(item) {
  const mark = piece("span", "mark");
  mark.setAttribute("aria-hidden", "true");
  const state = piece("p", "state", mark, piece("span", "words"), piece("span", "owner"));
  return piece("li", "node", piece("p", item.code ? "title code" : "title"), state, piece("dl"), piece("div", "fill"));
}

const makeLine = ([name]) => piece("div", "", piece("dt", "", name), piece("dd"));

let edges = [];

// Each edge is [from, to, share of the rate, severity]; a node is named by its list and key.
function edgesOf(view, lanes, workers) {
  const all = lanes.reduce((total, lane) => total + (lane.rate ?? 0), 0);
  const ofWorker = (worker) => lanes.filter((lane) => lane.worker === worker).reduce((total, lane) => total + (lane.rate ?? 0), 0);
  return [
    ["flow-agents agents", "flow-exchange exchange", share(all, all)],
    ...lanes.map((lane) => ["flow-exchange exchange", `flow-queues ${lane.key}`, share(lane.rate ?? 0, all)]),
    ...lanes.map((lane) => [`flow-queues ${lane.key}`, `flow-workers w${lane.worker}`, share(lane.rate ?? 0, all), lane.severity]),
    ...workers.map((worker) => [`flow-workers w${worker.worker}`, "flow-registry registry", share(ofWorker(worker.worker), all)]),
    ...workers.map((worker) => [`flow-workers w${worker.worker}`, "flow-registry quarantine", 0]),
    ["flow-registry registry", "flow-scrape scrape", view.scraped ? 0.5 : 0],
  ];
}

const placeOf = (name) => {
  const [list, key] = name.split(" ");
  return byId(list).querySelector(`:scope > [data-key="${key}"]`);
};

function drawEdges() {
  const svg = byId("edges");
  const frame = svg.getBoundingClientRect();
  if (!frame.width) return;
  const found = edges.filter(([from, to]) => placeOf(from) && placeOf(to));
  keep(svg, found, ([from, to]) => `${from} ${to}`, () => drawing("path", {}), (path, [from, to, weight, severity]) => {
    const [start, end] = [placeOf(from).getBoundingClientRect(), placeOf(to).getBoundingClientRect()];
    const [x1, y1] = [start.right - frame.left, anchor(start, frame)];
    const [x2, y2] = [end.left - frame.left, anchor(end, frame)];
    const bend = (x2 - x1) / 2;
    path.setAttribute("d", `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`);
    path.setAttribute("class", weight > 0 ? "flowing" : "still");
    path.setAttribute("stroke-width", (1.25 + weight * 2.5).toFixed(2));
    path.dataset.severity = severity && severity !== "good" ? severity : "";
  });
}

const anchor = (box, frame) => box.top + box.height / 2 - frame.top;

// -- tables -----------------------------------------------------------------------------------------------------------

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

const compare = (one, other) => (one < other ? -1 : one > other ? 1 : 0);

// A cell is a text, or what to draw with the words that tell when to draw it anew.
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

const agents = new SortedTable("agents", {
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

const families = new SortedTable("families", {
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

const withShares = (row) => ({
  ...row,
  share: row.budget ? share(row.used, row.budget) : -1,
  label_share: row.values_budget ? share(row.values, row.values_budget) : -1,
});

// -- the theme --------------------------------------------------------------------------------------------------------

const THEMES = ["auto", "light", "dark"];

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  say(byId("theme").firstElementChild, theme);
}

function remembered() {
  try {
    return THEMES.includes(localStorage.theme) ? localStorage.theme : "auto";
  } catch {
    return "auto"; // A browser that keeps nothing.
  }
}

byId("theme").addEventListener("click", () => {
  const theme = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
  setTheme(theme);
  try {
    localStorage.theme = theme;
  } catch {
    // It holds until the page is left.
  }
});

setTheme(remembered());

// -- the stream -------------------------------------------------------------------------------------------------------

const STALE_SECONDS = 5;
const RETRY_SECONDS = 2;

let stream = null;
let heardAt = null;

function connect() {
  stream?.close();
  stream = new EventSource("/overview/stream");
  stream.addEventListener("message", ({ data }) => {
    heardAt = Date.now();
    const view = JSON.parse(data);
    draw({ ...view, families: view.families.map(withShares) });
    tell();
  });
}

// The browser itself tries again after a lost connection, but not after an answer that is no stream.
function tell() {
  const silent = heardAt == null || Date.now() - heardAt > STALE_SECONDS * 1000;
  const lost = stream.readyState !== EventSource.OPEN;
  document.body.dataset.state = heardAt == null ? "connecting" : silent || lost ? "stale" : "live";
  const words = {
    connecting: "waiting for the first figures",
    stale: `stale since ${clock.format(heardAt)}, reconnecting`,
    live: `live, ${clock.format(heardAt)}`,
  }[document.body.dataset.state];
  say(document.querySelector("#freshness .word"), words);
}

function look() {
  tell();
  if (stream.readyState === EventSource.CLOSED) connect();
}

new ResizeObserver(drawEdges).observe(byId("stages"));
setInterval(look, RETRY_SECONDS * 1000);
connect();
