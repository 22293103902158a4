// The page's sections other than the flow and the sorted tables: each is drawn from an update.

import { byId, drawing, isEmpty, keep, marked, piece, say, sayMarked } from "./document.js";
import { age, compare, count, latency, NONE, plural, rate, spaced, sum } from "./figures.js";

const MAX_REASONS = 8;

function healthOf(view) {
  if (view.alive === "stopping") return ["fair", "Stopping"];
  if (view.alive !== "alive") return ["bad", "Dead"];
  if (!view.shards.length) return ["fair", "No fleet"];
  if (view.ready === "standby") return [view.degraded.length ? "fair" : "good", "Standby"];
  if (view.ready !== "ready") return ["bad", "Not ready"];
  return view.degraded.length ? ["fair", "Ready, degraded"] : ["good", "Ready"];
}

export function drawHealth(view) {
  const [severity, word] = healthOf(view);
  const pill = byId("health");
  pill.dataset.severity = severity;
  say(pill.querySelector(".word"), word);
  document.title = `${word} · ${rate(view.rates.envelopes)}/s · busmon`;
}

export function drawReasons(view) {
  const [health] = healthOf(view);
  const reasons = [...view.degraded, ...view.notices];
  const severity = health === "good" ? "fair" : health;
  const section = byId("reasons");
  section.dataset.severity = severity;
  section.hidden = !reasons.length;
  say(section.querySelector("h2"), severity === "bad" ? "Problems" : "Warnings");
  const shown = reasons.slice(0, MAX_REASONS);
  if (reasons.length > shown.length) shown.push(`and ${count(reasons.length - shown.length)} more`);
  keep(section.querySelector("ul"), shown, (reason) => reason, () => piece("li"), sayMarked);
}

export function drawStart(view) {
  byId("start").hidden = view.totals.samples > 0;
  byId("start-fleet").hidden = view.shards.length > 0;
  say(document.querySelector(".scrape-target"), new URL(view.scrape).host);
}

export function drawTiles(view) {
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

const refusedIn = (totals) => sum(totals.rejected) + sum(totals.quarantined) + totals.publisher_dropped;

export function drawRefused(view) {
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
  say(byId("refused-count"), totals.deduplicated ? `${plural(totals.deduplicated, "duplicate")} ignored` : "");
}

// The last sample of each reason and agent, with what its publisher stated.
export function drawRejected(view) {
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

export function drawDependencies(view) {
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
