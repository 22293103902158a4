"""How long from an agent's publish until a scrape shows it, while a worker is as busy as stated.

    .venv/bin/python benchmarks/latency.py [--load 0.5] [--seconds 20] [--flush 0.05,0.25,1]

One worker first drains a backlog as fast as it can. Then, for each flush interval, agents publish at that share of its
rate, confirmed, 5 samples an envelope, and every 20 ms a probe: an increment of a counter of its own. A reader collects
the shard files over and over, as a scrape does, and notes when each probe is counted. `visible` is from just before a
probe's publish to the end of the first collection that has it.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import backlog
import orjson
import pika
from consume import Bench
from drains import BATCH

from busmon.demo.broker import PrivateNode
from busmon.registry.scrape.exposition import Exposition
from busmon.settings import Settings

SAMPLES = 5
PROBE = "probes_total"
PROBE_SECONDS = 0.02
BURST_SECONDS = 0.01


class Probes:
    """A counter's increments on their way, and how long each took to be seen."""

    def __init__(self) -> None:
        self.sent: list[float] = []
        self.took: list[float] = []

    def body(self) -> bytes:
        """The next probe's body, sent now."""
        self.sent.append(time.time())
        sample = {"name": PROBE, "type": "counter", "value": 1}
        return orjson.dumps({"v": 1, "source": "probe", "agent": "probe", "samples": [sample]})

    def counted(self, total: int) -> None:
        """So many are counted by now."""
        now = time.time()
        self.took.extend(now - at for at in self.sent[len(self.took) : total])


def publish(settings: Settings, per_second: float, seconds: float, probes: Probes) -> None:
    """Publish at this rate for so long, with probes in between."""
    connection = pika.BlockingConnection(pika.URLParameters(settings.amqp_url))
    channel = connection.channel()
    bodies = list(backlog.envelopes(int(per_second * seconds), SAMPLES, "tables"))
    began, sent = time.time(), 0
    while (elapsed := time.time() - began) < seconds:
        due = int(elapsed * per_second)
        for body, properties in bodies[sent:due]:
            properties.headers["published_at_ns"] = time.time_ns()
            channel.basic_publish(settings.exchange, "analyzer.task", body, properties)
        sent = due
        if len(probes.sent) <= elapsed / PROBE_SECONDS:
            properties = pika.BasicProperties(message_id=f"probe:{len(probes.sent) + 1}", delivery_mode=2)
            channel.basic_publish(settings.exchange, "probe", probes.body(), properties)
        connection.sleep(BURST_SECONDS)
    connection.close()


@contextmanager
def worker(settings: Settings, registry_dir: str, flush: float) -> Iterator[None]:
    """A worker of shard 0."""
    environment = {
        **os.environ,
        **settings.environment(),
        "BUSMON_REGISTRY_DIR": registry_dir,
        "BUSMON_FLUSH_INTERVAL_SECONDS": str(flush),
        "BUSMON_LOG_LEVEL": "error",
    }
    process = subprocess.Popen([sys.executable, "-m", "busmon", "worker", "--shards", "0"], env=environment)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def measure(
    settings: Settings, scratch: Path, per_second: float, seconds: float, flush: float
) -> tuple[float, float, float]:
    """Median, p99 and maximum of `visible` at one flush interval, in seconds."""
    with tempfile.TemporaryDirectory(dir=scratch) as registry_dir, worker(settings, registry_dir, flush):
        probes, exposition = Probes(), Exposition(Path(registry_dir))
        publisher = threading.Thread(target=publish, args=(settings, per_second, seconds, probes))
        publisher.start()
        deadline = time.time() + seconds + 30
        while publisher.is_alive() or len(probes.took) < len(probes.sent):
            if time.time() > deadline:
                raise SystemExit(f"{len(probes.sent) - len(probes.took)} of {len(probes.sent)} probes were never seen")
            snapshot = exposition.collect()
            probes.counted(int(snapshot.value(PROBE)))
            time.sleep(0.002)
        took = statistics.quantiles(probes.took, n=100, method="inclusive")
        return took[49], took[98], max(probes.took)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", type=float, default=0.5, help="share of what one worker can drain")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--flush", default="0.05,0.25,1")
    args = parser.parse_args()
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="busmon-benchmark-"))
        node = stack.enter_context(PrivateNode(Path(directory) / "node"))
        bench = Bench(node.amqp_url, Path(directory))
        drained = 40 * BATCH
        per_second = drained / bench.run("busmon", drained, SAMPLES, "tables")["wall"] * args.load
        print(f"{per_second:,.0f} envelopes/s of {SAMPLES} samples: {args.load:.0%} of what one worker drained")
        print(f"{'flush interval':>16}{'p50 visible':>14}{'p99 visible':>14}{'max visible':>14}")
        for flush in map(float, args.flush.split(",")):
            found = measure(bench.one_shard, Path(directory), per_second, args.seconds, flush)
            print(f"{flush:14.2f} s" + "".join(f"{value:12.3f} s" for value in found))


if __name__ == "__main__":
    main()
