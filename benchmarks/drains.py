"""The programs whose consuming `consume.py` measures: each drains one queue, and says when and at what CPU time.

    python benchmarks/drains.py PROGRAM QUEUE ENVELOPES

Where the broker is comes from the settings. Printed is one JSON object: `begin` and `end` in seconds since the epoch,
from the first delivery to the last ack, `cpu`, the process's own seconds of user and system time in between, and
`bytes`, what it has in memory in the end.
"""

import asyncio
import json
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import entry
import orjson
import pika
from pika.adapters.select_connection import IOLoop, SelectConnection
from prometheus_client import CollectorRegistry, Counter, Histogram

from busmon.bus.frames.delivery import Delivery
from busmon.fleet.signals import inbox
from busmon.fleet.worker.worker import Worker
from busmon.settings import Settings, load

PREFETCH = 1000
BATCH = 500

Figures = dict[str, float]


@dataclass(slots=True)
class Stopwatch:
    """Wall and CPU time from the first delivery on."""

    envelopes: int
    begin: float = 0.0
    cpu: float = 0.0
    seen: int = 0

    def count(self, count: int = 1) -> None:
        """Count deliveries; the first starts the clocks."""
        if not self.seen:
            self.begin, self.cpu = time.time(), time.process_time()
        self.seen += count

    @property
    def done(self) -> bool:
        """Tell whether the whole backlog was delivered."""
        return self.seen >= self.envelopes

    def stop(self) -> Figures:
        """Return the figures."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        cpu = time.process_time() - self.cpu
        return {"begin": self.begin, "end": time.time(), "cpu": cpu, "bytes": pages * resource.getpagesize()}


class Counted:
    """Metrics in prometheus_client's own registry, as the obvious programs count them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._published = Counter(
            "messages_published", "Messages published.", ["exchange", "routing_key"], registry=self.registry
        )
        self._duration = Histogram(
            "task_duration_seconds",
            "How long tasks take.",
            ["agent"],
            buckets=(0.1, 0.5, 1, 2, 5, 10),
            registry=self.registry,
        )

    def count(self, envelope: Mapping[str, Any]) -> None:
        """Count an envelope's samples."""
        for table in envelope.get("tables", ()):
            for *labels, value in table["rows"]:
                self._count(labels, value)
        for sample in envelope.get("samples", ()):
            labels = [*sample["labels"].values()]
            self._count(labels, [sample["value"]] if len(labels) == 1 else sample["value"])

    def _count(self, labels: Sequence[str], value: Any) -> None:
        if len(labels) == 1:
            self._duration.labels(*labels).observe(value[0])
        else:
            self._published.labels(*labels).inc(value)


def naive(settings: Settings, queue: str, watch: Stopwatch) -> Figures:
    """Drain with a blocking connection and an ack for each delivery, the obvious program."""
    counted = Counted()
    connection = pika.BlockingConnection(pika.URLParameters(settings.amqp_url))
    channel = connection.channel()
    channel.basic_qos(prefetch_count=PREFETCH)

    def on_message(_: object, method: pika.spec.Basic.Deliver, __: object, body: bytes) -> None:
        watch.count()
        counted.count(orjson.loads(body))
        channel.basic_ack(method.delivery_tag)
        if watch.done:
            channel.stop_consuming()

    channel.basic_consume(queue, on_message)
    channel.start_consuming()
    figures = watch.stop()
    connection.close()
    return figures


def faststream(settings: Settings, queue: str, watch: Stopwatch) -> Figures:
    """Drain with FastStream on aio-pika, with its Prometheus middleware."""
    from faststream.middlewares import AckPolicy  # noqa: PLC0415 - the others do without it
    from faststream.rabbit import Channel, RabbitBroker, RabbitQueue  # noqa: PLC0415
    from faststream.rabbit.prometheus import RabbitPrometheusMiddleware  # noqa: PLC0415

    counted = Counted()

    async def drain() -> Figures:
        middleware = RabbitPrometheusMiddleware(registry=counted.registry)
        broker = RabbitBroker(settings.amqp_url, middlewares=(middleware,), logger=None)
        finished = asyncio.Event()

        async def on_message(body: dict[str, Any]) -> None:
            watch.count()
            counted.count(body)
            if watch.done:
                finished.set()

        subscribe = broker.subscriber(
            RabbitQueue(queue, declare=False), channel=Channel(prefetch_count=PREFETCH), ack_policy=AckPolicy.ACK
        )
        subscribe(on_message)
        await broker.start()
        await finished.wait()
        figures = watch.stop()
        await broker.stop()
        return figures

    return asyncio.run(drain())


def floor(settings: Settings, queue: str, watch: Stopwatch) -> Figures:
    """Drain with plain pika: nothing but deliveries, parsing and acks."""
    figures: Figures = {}

    def on_message(channel: Any, method: pika.spec.Basic.Deliver, _: object, body: bytes) -> None:
        watch.count()
        orjson.loads(body)
        if watch.seen % BATCH == 0 or watch.done:
            channel.basic_ack(method.delivery_tag, multiple=True)
        if watch.done:
            figures.update(watch.stop())
            connection.close()

    def on_channel(channel: Any) -> None:
        channel.basic_qos(prefetch_count=PREFETCH, callback=lambda _: channel.basic_consume(queue, on_message))

    loop = IOLoop()
    connection = SelectConnection(
        pika.URLParameters(settings.amqp_url),
        on_open_callback=lambda opened: opened.channel(on_open_callback=on_channel),
        on_close_callback=lambda _, __: loop.stop(),
        custom_ioloop=loop,
    )
    connection.ioloop.start()
    return figures


class TimedWorker(Worker):
    """busmon's worker, with a stopwatch from its entrance to the last commit and ack; then it ends as on SIGTERM."""

    figures: Figures

    def time(self, watch: Stopwatch) -> None:
        """Have the worker's one shard start and stop the watch."""
        (shard,) = self._shards
        deliver = shard._pace.deliver  # noqa: SLF001 - the entrance of a shard

        def deliver_timed(deliveries: Sequence[Delivery]) -> None:
            watch.count(len(deliveries))
            deliver(deliveries)
            if watch.done:
                shard.drain()
                self.figures = watch.stop()
                self._drain()

        shard._pace.deliver = deliver_timed  # type: ignore[method-assign]  # noqa: SLF001


def busmon(settings: Settings, queue: str, watch: Stopwatch) -> Figures:
    """Drain with the worker."""
    shard = int(queue.rpartition(".")[2])
    with inbox(signal.SIGTERM) as signals:
        worker = TimedWorker(settings, [shard], shard)
        worker.time(watch)
        worker.run(signals)
        worker.close()
    return worker.figures


PROGRAMS: Mapping[str, Callable[[Settings, str, Stopwatch], Figures]] = {
    "naive": naive,
    "faststream": faststream,
    "floor": floor,
    "busmon": busmon,
}


def main() -> None:
    """Drain the queue, and print the figures."""
    program, drained, envelopes = sys.argv[1:]
    print(json.dumps(PROGRAMS[program](load(), drained, Stopwatch(int(envelopes)))))


if __name__ == "__main__":
    entry.run(main)
