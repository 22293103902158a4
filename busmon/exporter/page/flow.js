// The drawing of the flow: nodes from agents to the scrape, and the edges between them.

import { bar, byId, drawing, keep, piece, say } from "./document.js";
import { age, brief, bytes, count, duration, FRESH_SECONDS, latency, plural, rate, share, sum, tally } from "./figures.js";

const MAX_QUEUES_DRAWN = 12;
const STATES = {
  consuming: "good",
  standby: "good",
  opening: "fair",
  connecting: "fair",
  draining: "fair",
  blocked: "fair",
};

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

export function drawFlow(view) {
  const lanes = lanesOf(view.shards);
  const drawn = lanes.slice(0, MAX_QUEUES_DRAWN);
  const owners = new Set(drawn.map((lane) => lane.worker));
  const workers = view.workers.filter((worker) => owners.has(worker.worker) || view.workers.length <= MAX_QUEUES_DRAWN);
  say(byId("flow-note"), flowNote(view, lanes.length - drawn.length));
  nodes("flow-agents", [agentsNode(view)]);
  nodes("flow-exchange", [exchangeNode(view)]);
  nodes("flow-queues", drawn.length ? drawn.map((lane) => queueNode(lane, view.latency.least)) : [absent("no queue consumed")]);
  nodes("flow-workers", workers.length ? workers.map(workerNode) : [absent("no worker running")]);
  nodes("flow-registry", [registryNode(view), ...quarantineNodes(view)]);
  nodes("flow-scrape", [scrapeNode(view)]);
  edges = edgesOf(view, drawn, workers);
  drawEdges();
}

function flowNote(view, hidden) {
  const owners = `${plural(view.shards.length, "shard")}, ${plural(view.workers.length, "worker")}`;
  return hidden > 0 ? `${owners}; queues of ${count(hidden)} workers aren’t drawn` : owners;
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
  const node = { ...lane, title: lane.name, code: true, lines, owner: lane.worker, words: lane.state };
  return lane.replica ? withReplica(node, lane.replica) : node;
}

const REPLICAS = { owning: "good", following: "good", claiming: "fair", reading: "fair", interrupted: "bad" };

function withReplica(node, replica) {
  const lag = replica.lag_seconds == null ? "–" : age(replica.lag_seconds);
  const lines = [...node.lines, ["owner", replica.owner || "none"], ["behind", lag]];
  if (node.severity !== "good") return { ...node, lines };
  return { ...node, lines, words: replica.state, severity: REPLICAS[replica.state] ?? "bad" };
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
  const lines = [["families", count(view.families_known)], ["samples", count(view.totals.samples)], ["in all shards", count(used)]];
  return { key: "registry", title: plural(shown, "series", "series"), lines, bar: [used, budget, `of ${count(budget)}`] };
}

function quarantineNodes(view) {
  const ever = sum(view.totals.quarantined);
  if (!ever && !view.quarantined) return [];
  const lines = [["bodies now", count(view.quarantined)], ["in all", count(ever)]];
  const [words, severity] = view.quarantined == null ? ["unknown", "none"] : view.quarantined ? ["not reviewed", "fair"] : ["empty", "good"];
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

export function drawEdges() {
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
