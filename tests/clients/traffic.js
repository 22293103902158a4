// What a Node service does with the client: `node traffic.js AMQP_URL ENVELOPES`. Prints how many envelopes were lost.
import client from 'prom-client';
import { Bridge, Publisher } from './busmon.js';

const [url, envelopes] = [process.argv[2], Number(process.argv[3])];
const publisher = new Publisher(url, { agent: 'front-end' });
const registry = new client.Registry();
const clicks = new client.Counter({ name: 'clicks_total', help: 'Clicks', labelNames: ['page'], registers: [registry] });
const open = new client.Gauge({ name: 'open_pages', help: 'Open pages', registers: [registry] });
const waits = new client.Histogram({ name: 'wait_seconds', help: 'Waits', buckets: [0.1, 1], registers: [registry] });
client.collectDefaultMetrics({ register: registry });
const bridge = new Bridge(registry, publisher);
const stop = bridge.every(50);

open.set(7);
for (let number = 0; number < envelopes; number += 1) {
  clicks.inc({ page: 'start' }, 2);
  waits.observe(number % 2 ? 0.5 : 0.05);
  publisher.publish([{ name: 'votes_cast_total', labels: { type: 'upvote' }, value: 1 }]);
  if (number % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 20));
}
await stop();
console.log('published');
process.stdin.resume();
await new Promise((resolve) => process.stdin.once('end', resolve));
console.log(JSON.stringify({ lost: await publisher.close(20_000), dropped: publisher.dropped }));
