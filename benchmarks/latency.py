"""The delay from an agent's publish until a scrape shows it, at a stated load of the worker.

    .venv/bin/python benchmarks/latency.py [--load 0.5] [--seconds 20] [--flush 0.05,0.25,1]

One worker first drains a backlog as fast as it can. Then, for each flush interval and once its worker consumes, agents
publish at that share of its rate, confirmed, 5 samples an envelope, and every 20 ms a probe: an increment of a counter
of its own. A reader collects the shard files over and over, as a scrape does, and notes when each probe is counted.
`visible` is from just before a probe's publish to the end of the first collection that has it.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path

import backlog
import children
import entry
import orjson
import pika
from consume import Bench
from drains import BATCH

from busmon import status
from busmon.bus.connect.dialling import Addresses
from busmon.bus.publish.confirms import Confirms
from busmon.demo.broker import PrivateNode
from busmon.registry.scrape.exposition import Exposition
from busmon.settings import Settings

SAMPLES = 5
PROBE = "probes_total"
PROBE_SECONDS = 0.02
PROBE_BODY = orjson.dumps(
    {"v": 1, "source": "probe", "agent": "probe", "samples": [{"name": PROBE, "type": "counter", "value": 1}]}
)
BURST_SECONDS = 0.01
ARREARS_SECONDS = 0.05
START_SECONDS = 60.0
ENOUGH_OF_LOAD = 0.95
MAX_LOAD = 0.9
IN_FLIGHT = 500
"""Publishes without a confirm: of each of the backlog's sources fewer than the gaps that a shard tells apart."""


def publish(settings: Settings, per_second: float, seconds: float) -> tuple[int, list[float]]:
    """Publish at this rate for so long, confirmed; return how many envelopes went out, and when each probe did.

    What can't be sent in its time isn't sent: made up for in a burst, it would be the publisher's latency that shows.
    """
    confirms = Confirms(Addresses(settings.amqp_url, "busmon latency benchmark"), START_SECONDS, lambda: None)
    bodies = backlog.envelopes(int(per_second * seconds), SAMPLES, "tables")
    began, due, sent, probes = time.time(), 0.0, 0, list[float]()
    while (elapsed := time.time() - began) < seconds:
        due = max(due, (elapsed - ARREARS_SECONDS) * per_second)
        while due < elapsed * per_second:
            body, properties = next(bodies)
            properties.headers["published_at_ns"] = time.time_ns()
            confirms.settle(IN_FLIGHT)
            confirms.publish(settings.exchange, "analyzer.task", body, properties, lambda: None)
            due, sent = due + 1, sent + 1
        if len(probes) <= elapsed / PROBE_SECONDS:
            probes.append(time.time())
            properties = pika.BasicProperties(message_id=f"probe:{len(probes)}", delivery_mode=2)
            confirms.publish(settings.exchange, "probe", PROBE_BODY, properties, lambda: None)
        confirms.turn(BURST_SECONDS)
    confirms.settle()
    confirms.close()
    return sent, probes


@contextmanager
def worker(settings: Settings, registry_dir: str, flush: float) -> Iterator[None]:
    """Run a worker of shard 0."""
    environment = {
        **os.environ,
        **settings.environment(),
        "BUSMON_REGISTRY_DIR": registry_dir,
        "BUSMON_FLUSH_INTERVAL_SECONDS": str(flush),
        "BUSMON_LOG_LEVEL": "error",
    }
    with children.running([sys.executable, "-m", "busmon", "worker", "--shards", "0"], env=environment):
        yield


def await_consumer(registry_dir: Path) -> None:
    """Wait until the worker consumes: its start is no latency of a publish."""
    deadline = time.monotonic() + START_SECONDS
    while [shard.state for each in status.read(registry_dir).workers for shard in each.shards] != ["consuming"]:
        if time.monotonic() > deadline:
            raise SystemExit(f"the worker doesn't consume after {START_SECONDS:g} s")
        time.sleep(0.01)


def measure(
    settings: Settings, scratch: Path, per_second: float, seconds: float, flush: float
) -> tuple[float, float, float, float]:
    """Return median, p99 and maximum of `visible`, in seconds, and the share of the load that went out."""
    with (
        tempfile.TemporaryDirectory(dir=scratch) as registry_dir,
        worker(settings, registry_dir, flush),
        ProcessPoolExecutor(1, get_context("spawn")) as pool,
    ):
        exposition, seen = Exposition(Path(registry_dir)), list[float]()
        await_consumer(Path(registry_dir))
        publisher = pool.submit(publish, settings, per_second, seconds)
        deadline = time.time() + seconds + START_SECONDS
        while not publisher.done() or len(seen) < len(publisher.result()[1]):
            if time.time() > deadline:
                raise SystemExit(f"{len(seen)} probes were seen, and more were published")
            counted = int(exposition.collect().value(PROBE))
            seen += [time.time()] * (counted - len(seen))
            time.sleep(0.002)
        sent, probes = publisher.result()
        took = [at - published for at, published in zip(seen, probes, strict=True)]
        quantiles = statistics.quantiles(took, n=100, method="inclusive")
        return quantiles[49], quantiles[98], max(took), sent / (per_second * seconds)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", type=float, default=0.5, help="share of what one worker can drain")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--flush", default="0.05,0.25,1")
    args = parser.parse_args()
    if not 0 < args.load <= MAX_LOAD:
        parser.error(f"--load: expected more than 0 and at most {MAX_LOAD:g}, or what waits only grows")
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="busmon-benchmark-"))
        node = stack.enter_context(PrivateNode(Path(directory) / "node"))
        bench = Bench(node.amqp_url, Path(directory))
        drained = 40 * BATCH
        per_second = drained / bench.run("busmon", drained, SAMPLES, "tables")["wall"] * args.load
        print(f"{per_second:,.0f} envelopes/s of {SAMPLES} samples: {args.load:.0%} of what one worker drained")
        print(f"{'flush interval':>16}{'p50 visible':>14}{'p99 visible':>14}{'max visible':>14}")
        for flush in map(float, args.flush.split(",")):
            *found, share = measure(bench.one_shard, Path(directory), per_second, args.seconds, flush)
            print(f"{flush:14.2f} s" + "".join(f"{value:12.3f} s" for value in found))
            if share < ENOUGH_OF_LOAD:
                print(f"{'':16}publishing fell short: {share:.0%} of the load; the figures are of that")


if __name__ == "__main__":
    entry.run(main)
