"""What consuming costs: the same backlog drained by busmon's worker, by the program one would write, and by the floor.

    .venv/bin/python benchmarks/consume.py [--envelopes 20000] [--rounds 3] [--form tables|samples] [--sizes 1,5,100]

- `naive`: BlockingConnection, orjson, prometheus_client's `labels().inc()`, one ack for each delivery.
- `floor`: SelectConnection, `orjson.loads`, one ack for 500 deliveries; nothing is counted.
- `busmon`: the worker as it runs in a fleet: decode, ledger, fold, journal, value files, ack after the commit.

Each program runs in a process of its own, all of them in turn in every round, on a quorum queue of a private RabbitMQ
node (or of `BUSMON_AMQP_URL`). Throughput counts from the first delivery to the last ack, CPU is the consumer's own,
user and system, over the same span. Printed are medians over the rounds; ratios are of medians of the same run.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import backlog
import orjson
import pika
from pika.adapters.select_connection import IOLoop, SelectConnection
from prometheus_client import CollectorRegistry, Counter, Histogram

from busmon.bus import topology as topologies
from busmon.bus.declare import declare
from busmon.bus.delivery import Delivery
from busmon.demo.broker import PrivateNode
from busmon.fleet.signals import inbox
from busmon.fleet.worker import Worker
from busmon.settings import Settings, load

PREFETCH = 1000
BATCH = 500


@dataclass(slots=True)
class Stopwatch:
    """Wall and CPU time from the first delivery on."""

    envelopes: int
    wall: float = 0.0
    cpu: float = 0.0
    seen: int = 0

    def delivered(self, count: int = 1) -> None:
        """Count deliveries; the first starts the clocks."""
        if not self.seen:
            self.wall, self.cpu = time.perf_counter(), time.process_time()
        self.seen += count

    @property
    def done(self) -> bool:
        """Whether the whole backlog was delivered."""
        return self.seen >= self.envelopes

    def stop(self) -> dict[str, float]:
        """The figures."""
        return {"wall": time.perf_counter() - self.wall, "cpu": time.process_time() - self.cpu}


def naive(settings: Settings, queue: str, watch: Stopwatch) -> dict[str, float]:
    """What one writes first."""
    registry = CollectorRegistry()
    published = Counter("messages_published", "…", ["exchange", "routing_key"], registry=registry)
    duration = Histogram("task_duration_seconds", "…", ["agent"], buckets=(0.1, 0.5, 1, 2, 5, 10), registry=registry)
    connection = pika.BlockingConnection(pika.URLParameters(settings.amqp_url))
    channel = connection.channel()
    channel.basic_qos(prefetch_count=PREFETCH)

    def count(row: Sequence[Any]) -> None:
        *labels, value = row
        if len(labels) == 1:
            duration.labels(*labels).observe(value[0])
        else:
            published.labels(*labels).inc(value)

    def on_message(_: object, method: pika.spec.Basic.Deliver, __: object, body: bytes) -> None:
        watch.delivered()
        envelope = orjson.loads(body)
        for table in envelope.get("tables", ()):
            for row in table["rows"]:
                count(row)
        for sample in envelope.get("samples", ()):
            values = [*sample["labels"].values()]
            count([*values, [sample["value"]] if len(values) == 1 else sample["value"]])
        channel.basic_ack(method.delivery_tag)
        if watch.done:
            channel.stop_consuming()

    channel.basic_consume(queue, on_message)
    channel.start_consuming()
    figures = watch.stop()
    connection.close()
    return figures


def floor(settings: Settings, queue: str, watch: Stopwatch) -> dict[str, float]:
    """What nothing in Python on pika can go below: deliver, parse, acknowledge."""
    figures: dict[str, float] = {}

    def on_message(channel: Any, method: pika.spec.Basic.Deliver, _: object, body: bytes) -> None:
        watch.delivered()
        orjson.loads(body)
        if watch.seen % BATCH == 0 or watch.done:
            channel.basic_ack(method.delivery_tag, multiple=True)
        if watch.done:
            figures.update(watch.stop())
            connection.close()

    def on_channel(channel: Any) -> None:
        channel.basic_qos(prefetch_count=PREFETCH, callback=lambda _: channel.basic_consume(queue, on_message))

    connection = SelectConnection(
        pika.URLParameters(settings.amqp_url),
        on_open_callback=lambda opened: opened.channel(on_open_callback=on_channel),
        on_close_callback=lambda closed, _: closed.ioloop.stop(),
        custom_ioloop=IOLoop(),
    )
    connection.ioloop.start()
    return figures


class TimedWorker(Worker):
    """busmon's worker, with a stopwatch at its entrance, that stops when the backlog is committed and acknowledged."""

    watch: Stopwatch

    def delivered(self, queue: str, deliveries: Sequence[Delivery]) -> None:
        """Take deliveries."""
        self.watch.delivered(len(deliveries))
        super().delivered(queue, deliveries)
        if self.watch.done:
            for lane in self._lanes.values():
                lane.close("drain")
            self._ioloop.stop()


def busmon(settings: Settings, queue: str, watch: Stopwatch) -> dict[str, float]:
    """The worker."""
    with inbox(signal.SIGTERM) as signals:
        worker = TimedWorker(settings, [int(queue.rpartition(".")[2])], 0)
        worker.watch = watch
        worker.run(signals)
        figures = watch.stop()
        worker.close()
    return figures


PROGRAMS: Mapping[str, Callable[[Settings, str, Stopwatch], dict[str, float]]] = {
    "naive": naive,
    "floor": floor,
    "busmon": busmon,
}


def measure(settings: Settings, program: str, envelopes: int) -> dict[str, float]:
    """One program's figures for the backlog that is there."""
    with tempfile.TemporaryDirectory(prefix="busmon-benchmark-") as directory:
        printed = subprocess.run(
            [sys.executable, __file__, "--drain", program, "--envelopes", str(envelopes)],
            env={
                **os.environ,
                **settings.environment(),
                "BUSMON_REGISTRY_DIR": directory,
                "BUSMON_LOG_LEVEL": "error",
            },
            check=True,
            capture_output=True,
        ).stdout
    return dict(json.loads(printed.splitlines()[-1]))


def report(figures: Mapping[str, Sequence[Mapping[str, float]]], envelopes: int, samples: int) -> None:
    """Print one size's table."""
    cpu = {name: statistics.median(f["cpu"] for f in runs) / envelopes * 1e6 for name, runs in figures.items()}
    rate = {name: envelopes / statistics.median(f["wall"] for f in runs) for name, runs in figures.items()}
    print(f"\n{samples} samples an envelope, {envelopes} envelopes, medians of {len(figures['floor'])} rounds")
    print(f"{'':8}{'envelopes/s':>14}{'samples/s':>14}{'CPU µs/env.':>14}{'CPU ÷ floor':>14}{'rate ÷ naive':>14}")
    for name in figures:
        row = (rate[name], rate[name] * samples, cpu[name], cpu[name] / cpu["floor"], rate[name] / rate["naive"])
        print(f"{name:8}{row[0]:14,.0f}{row[1]:14,.0f}{row[2]:14.1f}{row[3]:14.2f}{row[4]:14.1f}")


def one_shard(directory: Path) -> Path:
    """The built-in topology with one shard: one queue for all programs."""
    path = directory / "one-shard.toml"
    built_in = topologies.built_in().read_text()
    path.write_text(built_in.replace("\nshards = 4", "\nshards = 1"))
    return path


def main() -> None:
    """Run every program on every backlog, in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envelopes", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", default="1,5,100")
    parser.add_argument("--form", choices=("tables", "samples"), default="tables")
    parser.add_argument("--drain", choices=PROGRAMS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.drain:
        settings = load()
        queue = topologies.load(settings.topology, settings.exchange).fold_queue(0)
        print(json.dumps(PROGRAMS[args.drain](settings, queue, Stopwatch(args.envelopes))))
        return
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="busmon-benchmark-")))
        flags = {"topology": str(one_shard(scratch))}
        if load().origin("amqp_url") == "default":
            flags["amqp_url"] = stack.enter_context(PrivateNode(scratch / "node")).amqp_url
        settings = load(flags)
        declare(topologies.load(settings.topology, settings.exchange), settings.amqp_url, None, {})
        for samples in map(int, args.sizes.split(",")):
            figures: dict[str, list[dict[str, float]]] = {name: [] for name in PROGRAMS}
            for _ in range(args.rounds):
                for name in PROGRAMS:
                    backlog.publish(settings.amqp_url, settings.exchange, args.envelopes, samples, args.form)
                    figures[name].append(measure(settings, name, args.envelopes))
            report(figures, args.envelopes, samples)


if __name__ == "__main__":
    main()
