"""A publisher that uses the SDK, with every body recorded on its way to the broker.

`python -m tests.soak.sdk_publisher NAME RECORD AMQP_URL`. A run that was killed may leave one envelope whose confirm
never came; the next run sends it again first. SIGTERM ends it in order. The SDK's own thread publishes and records.
"""

import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pika

from busmon import Telemetry
from busmon.bus.publish import publisher
from busmon.errors import BusError
from busmon.fleet.supervisor import parent
from tests.soak.raw_publisher import AMOUNTS, properties
from tests.soak.record import Intent, Record

STEP_SECONDS = 0.01
CLOSE_SECONDS = 120.0


def main(name: str, path: str, amqp_url: str) -> None:
    """Run one."""
    record = Record(Path(path))
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    parent.watch()
    send_again(record, amqp_url, name)
    with (
        patch.object(publisher, "ConfirmedPublisher", recording(record)),
        Telemetry(name, amqp_url, lifecycle=False) as telemetry,
    ):
        steps = work(telemetry, stopping)
        if telemetry.close(CLOSE_SECONDS):
            record.end(telemetry.source, steps)


def send_again(record: Record, amqp_url: str, name: str) -> None:
    """Publish what the run before had not confirmed."""
    confirmed = publisher.ConfirmedPublisher(amqp_url, f"{name} again")
    while record.unconfirmed and not parent.parent_is_gone():
        intent = next(iter(record.unconfirmed.values()))
        try:
            confirmed.publish("telemetry", intent.routing_key, intent.body.encode(), properties(intent))
        except BusError:
            time.sleep(0.2)
        else:
            record.confirm(intent.message_id)
    confirmed.close()


def recording(record: Record) -> type[publisher.ConfirmedPublisher]:
    """The SDK's publisher, with a record."""

    class Recording(publisher.ConfirmedPublisher):
        def send(
            self,
            exchange: str,
            routing_key: str,
            body: bytes,
            properties: pika.BasicProperties,
            stored: Callable[[], None],
        ) -> None:
            def confirm() -> None:
                record.confirm(properties.message_id)
                stored()

            record.intend(Intent.of(properties.headers["source"], routing_key, body, properties))
            super().send(exchange, routing_key, body, properties, confirm)

    return Recording


def work(telemetry: Telemetry, stopping: list[int]) -> int:
    """Report steps until told to stop; how many."""
    agent = telemetry.agent
    tasks = telemetry.counter("tasks_processed_total", labelnames=["agent", "status"])
    durations = telemetry.histogram("task_duration_seconds", labelnames=["agent"])
    sizes = telemetry.summary("request_size_bytes")
    steps = 0
    for amount in amounts():
        if stopping:
            return steps
        tasks.labels(agent, "success").inc()
        durations.labels(agent).observe(amount)
        sizes.observe(amount)
        steps += 1
        time.sleep(STEP_SECONDS)
    return steps


def amounts() -> Iterator[float]:
    """Yield observations without an end."""
    while True:
        yield random.choice(AMOUNTS)


if __name__ == "__main__":
    main(*sys.argv[1:])
