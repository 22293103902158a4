"""The cost of the fleet as shipped next to that of Telegraf, for the same samples: CPU of all processes for a backlog.

    .venv/bin/python benchmarks/telegraf.py [--envelopes 20000] [--rounds 3] [--sizes 1,5,100]

Telegraf isn't set up with the project; where it is missing, the script prints a command that builds it. Both are sides
of `fleet.py`'s measurement: counters, a gauge and two histograms of five families, published in one transaction while
the consumer waits, and a scrape each second. busmon gets `tables`, Telegraf InfluxDB's lines, which it reads in the
least time.

- `busmon`: four shards, two workers, exporter and supervisor. Each envelope is counted once.
- `last`: Telegraf with `amqp_consumer` and `prometheus_client`. It shows the last value of each series, no sum.
- `sums`: Telegraf that adds up counters (`basicstats`) and sorts observations into buckets (`histogram`), each of a
  period of 10 s; it neither adds up periods nor recognizes what comes twice.

Telegraf's CPU is read three seconds after its queue is empty, since nothing tells when it has acknowledged all. Figures
are medians over the rounds, in which all take turns.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import backlog
import children
import entry
import fleet
import pika
from consume import bench

from busmon.demo.rabbitmq import LOOPBACK, free_ports

VERSION = "v1.37.2"
PLUGINS = (
    "inputs.amqp_consumer",
    "outputs.prometheus_client",
    "aggregators.basicstats",
    "aggregators.histogram",
    "parsers.influx",
)
INSTALL = f"go install -tags custom,{','.join(PLUGINS)} github.com/influxdata/telegraf/cmd/telegraf@{VERSION}"
WAYS = ("last", "sums")
SETTLED_SECONDS = 3.0
START_SECONDS = 30.0

_COMMON = """
[agent]
  flush_interval = "1s"
  metric_batch_size = 1000
  metric_buffer_limit = 100000
  omit_hostname = true
  quiet = true
[[inputs.amqp_consumer]]
  brokers = ["amqp://{host}:{port}{path}"]
  username = "{username}"
  password = "{password}"
  exchange = ""
  queue = "{queue}"
  queue_passive = true
  prefetch_count = 1000
  max_undelivered_messages = 1000
  data_format = "influx"
[[outputs.prometheus_client]]
  listen = "{listen}"
  metric_version = 2
  collectors_exclude = ["gocollector", "process"]
"""
_SUMS = """
[[aggregators.basicstats]]
  period = "10s"
  drop_original = true
  stats = ["sum"]
  namepass = ["*_total"]
[[aggregators.histogram]]
  period = "10s"
  drop_original = true
  reset = true
  namepass = ["*_seconds"]
  [[aggregators.histogram.config]]
    buckets = [0.1, 0.5, 1.0, 2.5, 5.0, 10.0]
    measurement_name = "task_duration_seconds"
    fields = ["value"]
  [[aggregators.histogram.config]]
    buckets = [0.1, 0.5, 1.0, 2.5, 5.0, 10.0]
    measurement_name = "api_request_duration_seconds"
    fields = ["value"]
"""


class Telegraf:
    """Telegraf on a queue of its own.

    Args:
        program: its path.
        scratch: takes its configuration.
        amqp_url: the broker.
        way: what it does with the samples.
    """

    def __init__(self, program: str, scratch: Path, amqp_url: str, way: str) -> None:
        self.queue = f"telegraf-{way}"
        self._amqp_url = amqp_url
        listen = f"{LOOPBACK}:{free_ports(1)[0]}"
        url = pika.URLParameters(amqp_url)
        with pika.BlockingConnection(url) as connection:
            connection.channel().queue_declare(self.queue, durable=True, arguments={"x-queue-type": "quorum"})
        configuration = scratch / f"{way}.conf"
        said = {"username": url.credentials.username, "password": url.credentials.password, "queue": self.queue}
        path = "/" if url.virtual_host == "/" else f"/{url.virtual_host}"
        configuration.write_text(
            _COMMON.format(host=url.host, port=url.port, path=path, listen=listen, **said)
            + (_SUMS if way == "sums" else "")
        )
        self._log = (scratch / f"{way}.log").open("wb")
        self._process = children.start([program, "--config", str(configuration)], stdout=self._log, stderr=self._log)
        self._scraper = fleet.Scraper(listen)
        self._scraper.start()

    def drain(self, made: fleet.Backlog) -> float:
        """Publish these bodies, wait until they are consumed, and return the CPU seconds that it took."""
        began: list[float] = []
        with pika.BlockingConnection(pika.URLParameters(self._amqp_url)) as connection:
            channel = connection.channel()
            self._wait_for_consumer(channel)
            channel.queue_bind(self.queue, "amq.fanout")
            backlog.publish(self._amqp_url, "amq.fanout", made, lambda: began.append(self._cpu()))
            while channel.queue_declare(self.queue, passive=True).method.message_count:
                time.sleep(fleet.LOOK_SECONDS)
            channel.queue_unbind(self.queue, "amq.fanout")
        time.sleep(SETTLED_SECONDS)
        return self._cpu() - began[0]

    def stop(self) -> None:
        """Stop Telegraf and the scraper."""
        self._process.terminate()
        self._process.wait()
        self._scraper.end()
        self._log.close()

    def _wait_for_consumer(self, channel: Any) -> None:
        ends_at = time.monotonic() + START_SECONDS
        while not channel.queue_declare(self.queue, passive=True).method.consumer_count:
            if time.monotonic() > ends_at or self._process.poll() is not None:
                raise SystemExit(f"telegraf.py: Telegraf doesn't consume: {Path(self._log.name).read_text()[-500:]}")
            time.sleep(fleet.LOOK_SECONDS)

    def _cpu(self) -> float:
        return fleet.read_cpu(Path(f"/proc/{self._process.pid}"))


def lines(count: int, samples: int) -> Iterator[tuple[bytes, pika.BasicProperties]]:
    """Make the samples of `fleet.envelopes` as InfluxDB's lines, a body an envelope."""
    for number in range(count):
        agent = fleet.AGENTS[number % len(fleet.AGENTS)]
        at = time.time_ns()
        picked = fleet.pick(agent, number, samples)
        body = "\n".join(
            ",".join([name, *(f"{label}={value}" for label, value in labels.items())]) + f" value={value} {at + place}"
            for place, (name, labels, value) in enumerate(picked)
        )
        yield body.encode(), pika.BasicProperties("text/plain", delivery_mode=2)


@contextmanager
def telegrafs(program: str, scratch: Path, amqp_url: str) -> Iterator[dict[str, Telegraf]]:
    """Start one Telegraf for each way."""
    with ExitStack() as ending:
        started = {}
        for way in WAYS:
            started[way] = Telegraf(program, scratch, amqp_url, way)
            ending.callback(started[way].stop)
        yield started


def measure(running: fleet.Fleet, others: dict[str, Telegraf], count: int, samples: int) -> list[float]:
    """Have each drain the same samples; return the CPU seconds of the fleet, and those of each Telegraf."""
    ours = running.drain([*fleet.envelopes(count, samples, "tables")])
    return [ours.fleet, *(other.drain([*lines(count, samples)]) for other in others.values())]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envelopes", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", default="1,5,100")
    args = parser.parse_args()
    program = entry.require_program("telegraf", INSTALL)
    with (
        bench() as side,
        tempfile.TemporaryDirectory(prefix="busmon-fleet-") as registry,
        tempfile.TemporaryDirectory(prefix="busmon-telegraf-") as scratch,
        fleet.fleet(side, registry) as (running, settings),
        telegrafs(program, Path(scratch), settings.amqp_url) as others,
    ):
        print("CPU µs an envelope, in brackets how many times busmon's\n")
        print(f"{'samples':>7}{'busmon':>10}" + "".join(f"{way:>16}" for way in others), flush=True)
        for samples in map(int, args.sizes.split(",")):
            rounds = [measure(running, others, args.envelopes, samples) for _ in range(args.rounds + 1)]
            _report(samples, args.envelopes, *zip(*rounds[1:], strict=True))


def _report(samples: int, count: int, *sides: Sequence[float]) -> None:
    ours, *others = (statistics.median(side) / count * 1e6 for side in sides)
    compared = "".join(f"{other:>10.1f} ({other / ours:.1f})" for other in others)
    print(f"{samples:>7}{ours:>10.1f}{compared}", flush=True)


if __name__ == "__main__":
    entry.run(main)
