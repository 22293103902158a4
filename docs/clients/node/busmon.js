// Publishes metrics to RabbitMQ in busmon's wire format.
//
// An envelope is kept until the broker has confirmed it, and is sent again under the same message id until then, in
// order: so it is counted, once. What the buffer has no room for is dropped, oldest first, and counted.

import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import amqp from 'amqplib';

const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 30_000;
const CLOSE_TIMEOUT_MS = 5_000;
const RESERVED = /^(busmon|process|scrape)_/;

export class Publisher {
  #url;
  #exchange;
  #routingKey;
  #maxWaiting;
  #sequence = 0;
  #waiting = new Map(); // bodies that aren't confirmed by message id, oldest first
  #connection = null;
  #channel = null;
  #returned = new Set(); // ids that reached no queue: RabbitMQ confirms them all the same
  #pauseMs = FIRST_PAUSE_MS;
  #timer = null;
  #closing = false;

  // Connects on its own, and again whenever it has to.
  constructor(url, { agent, exchange = 'telemetry', domain = 'task', maxWaiting = 10_000 }) {
    this.agent = agent;
    this.source = `${agent}-${hostname()}-${process.pid}-${randomBytes(8).toString('hex')}`.slice(-200);
    this.dropped = 0;
    this.#url = url;
    this.#exchange = exchange;
    this.#routingKey = `${agent}.${domain}`;
    this.#maxWaiting = maxWaiting;
    this.#connect();
  }

  // Samples as docs/wire-format.md has them; returns at once.
  publish(samples) {
    const body = { v: 1, source: this.source, agent: this.agent, ts: Date.now() / 1000, samples };
    this.#keep(Buffer.from(JSON.stringify(body)));
  }

  // How many envelopes are not confirmed yet.
  get waiting() {
    return this.#waiting.size;
  }

  // Publishes a last envelope, so that this source's gauges leave the scrape, and waits for the confirms; how many
  // envelopes are lost.
  async close(timeoutMs = CLOSE_TIMEOUT_MS) {
    const last = { v: 1, source: this.source, agent: this.agent, ts: Date.now() / 1000, samples: [], final: true };
    this.#keep(Buffer.from(JSON.stringify(last)));
    const deadline = Date.now() + timeoutMs;
    while (this.#waiting.size > 0 && Date.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    this.#closing = true;
    clearTimeout(this.#timer);
    await this.#connection?.close().catch(() => {});
    return this.#waiting.size;
  }

  #keep(body) {
    this.#sequence += 1;
    const id = `${this.source}:${this.#sequence}`;
    this.#waiting.set(id, body);
    if (this.#waiting.size > this.#maxWaiting) {
      this.#waiting.delete(this.#waiting.keys().next().value);
      this.dropped += 1;
    }
    if (this.#channel) this.#send(id, body);
  }

  #send(id, body) {
    const channel = this.#channel;
    const properties = {
      messageId: id,
      contentType: 'application/json',
      persistent: true,
      mandatory: true,
      appId: this.agent,
      headers: { source: this.source, published_at_ns: Date.now() * 1e6 },
    };
    const settled = (refusal) => {
      if (refusal || this.#returned.delete(id)) this.#startAgain(channel);
      else this.#waiting.delete(id);
    };
    try {
      channel.publish(this.#exchange, this.#routingKey, body, properties, settled);
    } catch {
      this.#startAgain(channel); // it is closed, and its event is still to come
    }
  }

  async #connect() {
    try {
      this.#connection = await amqp.connect(this.#url);
      this.#connection.on('error', () => {}); // 'close' follows
      const channel = await this.#connection.createConfirmChannel();
      channel.on('error', () => {});
      channel.on('close', () => this.#startAgain(channel));
      channel.on('return', (message) => this.#returned.add(message.properties.messageId));
      this.#channel = channel;
      this.#pauseMs = FIRST_PAUSE_MS;
      for (const [id, body] of this.#waiting) if (this.#channel === channel) this.#send(id, body);
    } catch {
      this.#startAgain(this.#channel);
    }
  }

  // Everything that isn't confirmed goes again, in order, on a new connection after a pause with jitter.
  #startAgain(channel) {
    if (this.#closing || channel !== this.#channel) return;
    this.#channel = null;
    this.#returned.clear();
    this.#connection?.close().catch(() => {});
    this.#timer = setTimeout(() => this.#connect(), this.#pauseMs * (0.5 + Math.random()));
    this.#pauseMs = Math.min(2 * this.#pauseMs, LONGEST_PAUSE_MS);
  }
}

// Publishes what a registry of prom-client's has grown by since the call before. Summaries are left out: their
// observations are gone, and their quantiles don't add up.
export class Bridge {
  #registry;
  #publisher;
  #seen = new Map();

  constructor(registry, publisher) {
    this.#registry = registry;
    this.#publisher = publisher;
  }

  async publish() {
    const samples = [];
    for (const metric of await this.#registry.getMetricsAsJSON()) {
      if (RESERVED.test(metric.name)) continue;
      if (metric.type === 'counter') samples.push(...this.#counted(metric));
      if (metric.type === 'gauge') samples.push(...gauged(metric));
      if (metric.type === 'histogram') samples.push(...this.#observed(metric));
    }
    this.#publisher.publish(samples);
  }

  // Publishes at an interval; the function that ends it publishes once more.
  every(milliseconds) {
    const timer = setInterval(() => this.publish(), milliseconds);
    return async () => {
      clearInterval(timer);
      await this.publish();
    };
  }

  #counted(metric) {
    const grown = metric.values.map((value) => ({ ...value, value: this.#growth(metric, value) }));
    return grown.filter(({ value }) => value > 0).map((value) => sample(metric, value));
  }

  #observed(metric) {
    const series = new Map();
    for (const { metricName, labels: { le, ...labels }, value } of metric.values) {
      const key = JSON.stringify(Object.entries(labels).sort());
      if (!series.has(key)) series.set(key, { labels, below: 0, buckets: {}, sum: 0 });
      const found = series.get(key);
      const growth = this.#growth(metric, { metricName, labels: { ...labels, le }, value });
      if (metricName.endsWith('_sum')) found.sum = growth;
      if (!metricName.endsWith('_bucket')) continue;
      found.buckets[le] = growth - found.below;
      found.below = growth;
    }
    const grown = [...series.values()].filter(({ below }) => below > 0);
    return grown.map(({ labels, buckets, sum }) => ({ ...named(metric, labels), buckets, sum }));
  }

  // What a value has grown by; all of it after a reset of the registry.
  #growth(metric, { metricName = metric.name, labels, value }) {
    const key = JSON.stringify([metricName, Object.entries(labels).sort()]);
    const before = this.#seen.get(key) ?? 0;
    this.#seen.set(key, value);
    return value >= before || metricName.endsWith('_sum') ? value - before : value;
  }
}

function gauged(metric) {
  return metric.values.filter(({ value }) => Number.isFinite(value)).map((value) => sample(metric, value));
}

function named(metric, labels) {
  const texts = Object.entries(labels).map(([name, value]) => [name, String(value)]);
  return { name: metric.name, type: metric.type, labels: Object.fromEntries(texts) };
}

function sample(metric, { labels, value }) {
  return { ...named(metric, labels), value };
}
