// The live page: draws each update of /overview/stream.

import { byId, say } from "./document.js";
import { drawEdges, drawFlow } from "./flow.js";
import { drawDependencies, drawHealth, drawReasons, drawRefused, drawRejected, drawStart, drawTiles } from "./sections.js";
import { agents, families, withShares } from "./tables.js";
import "./theme.js";

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

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

// The browser retries after a lost connection, but not after an answer other than a stream.
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
