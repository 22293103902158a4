"""A publisher without the SDK, as any language has it: bursts of envelopes on their way at once, kept until confirmed.

`python -m tests.soak.raw_publisher NAME SEED RECORD AMQP_URL sequence|token`. Each envelope adds the same to several
series, so that every scrape can be checked. Some confirmed envelopes are published again, as a publisher does that
doubts. SIGTERM ends it once everything is confirmed. One thread, pika's loop.
"""

import random
import signal
import sys
import time
import uuid
from collections import deque
from pathlib import Path
from typing import Any

import orjson
import pika
from pika.adapters.select_connection import IOLoop
from pika.channel import Channel
from pika.spec import Basic

from busmon.fleet.supervisor import parent
from tests.soak.record import Intent, Record

TICK_SECONDS = 0.05
MOST_PER_TICK = 10
MOST_UNCONFIRMED = 500
AGAIN_SHARE = 0.2
AMOUNTS = (0.25, 0.75, 3.0, 40.0)
"""What is observed: sums of them are exact in any order, and they fall into several buckets."""


class RawPublisher:
    """One run of one publisher."""

    def __init__(self, name: str, seed: str, record: Record, amqp_url: str, *, with_sequence: bool) -> None:
        self.is_stopping = False
        self._name = name
        self._source = f"{name}-run{record.runs}"
        self._record = record
        self._parameters = pika.URLParameters(amqp_url)
        self._with_sequence = with_sequence
        self._random = random.Random(f"{seed} {self._source}")
        self._sequence = 0
        self._loop = IOLoop()
        self._channel: Channel | None = None
        self._tag = 0
        self._in_flight: dict[int, Intent] = {}
        self._refused: set[str] = set()
        self._waiting = deque(record.unconfirmed.values())
        self._confirmed: deque[Intent] = deque(maxlen=500)

    def run(self) -> None:
        """Publish until told to stop and everything is confirmed."""
        self._connect()
        self._tick()
        self._loop.start()

    def _connect(self) -> None:
        pika.SelectConnection(
            self._parameters,
            on_open_callback=lambda connection: connection.channel(on_open_callback=self._open),
            on_open_error_callback=self._lost,
            on_close_callback=self._lost,
            custom_ioloop=self._loop,
        )

    def _open(self, channel: Channel) -> None:
        channel.add_on_return_callback(lambda _, __, properties, ___: self._refused.add(properties.message_id))
        channel.confirm_delivery(self._on_confirm, callback=lambda _: self._ready(channel))

    def _ready(self, channel: Channel) -> None:
        self._channel, self._tag = channel, 0
        self._pump()

    def _lost(self, *_: Any) -> None:
        """Publish again what was in flight, which may be stored or not, before anything newer."""
        self._channel = None
        self._waiting = deque(self._record.unconfirmed.values())
        self._in_flight.clear()
        self._loop.call_later(self._random.uniform(0.1, 1.0), self._connect)

    def _tick(self) -> None:
        if parent.parent_is_gone() or (self.is_stopping and not self._record.unconfirmed):
            self._loop.stop()
            return
        self._loop.call_later(TICK_SECONDS, self._tick)
        if not self.is_stopping and len(self._record.unconfirmed) < MOST_UNCONFIRMED:
            for _ in range(self._random.randrange(MOST_PER_TICK)):
                self._waiting.append(self._new())
            if self._confirmed and self._random.random() < AGAIN_SHARE:
                self._waiting.append(self._random.choice(self._confirmed))
        self._pump()

    def _new(self) -> Intent:
        self._sequence += 1
        message_id = f"{self._source}:{self._sequence}" if self._with_sequence else str(uuid.uuid4())
        body = orjson.dumps(envelope(self._source, self._name, self._random.choice(AMOUNTS))).decode()
        intent = Intent(message_id, self._source, self._name, f"{self._name}.task", body)
        self._record.intend(intent)
        return intent

    def _pump(self) -> None:
        while self._channel is not None and self._channel.is_open and self._waiting:
            intent = self._waiting.popleft()
            self._tag += 1
            self._in_flight[self._tag] = intent
            self._channel.basic_publish(
                "telemetry", intent.routing_key, intent.body.encode(), properties(intent), mandatory=True
            )

    def _on_confirm(self, frame: Any) -> None:
        answer: Basic.Ack | Basic.Nack = frame.method
        tags = (
            [tag for tag in self._in_flight if tag <= answer.delivery_tag] if answer.multiple else [answer.delivery_tag]
        )
        for intent in map(self._in_flight.pop, tags):
            if isinstance(answer, Basic.Nack) or intent.message_id in self._refused:
                self._refused.discard(intent.message_id)
                self._waiting.append(intent)
            else:
                self._record.confirm(intent.message_id)
                self._confirmed.append(intent)


def envelope(source: str, agent: str, amount: float) -> dict[str, Any]:
    """An envelope that adds 1 to three counters and to a histogram, and one amount to a counter and that histogram."""
    now = time.time()
    samples = [
        {"name": "tasks_processed_total", "labels": {"agent": agent, "status": "success"}, "value": 1},
        {"name": "agent_heartbeats_total", "labels": {"agent": agent}, "value": 1},
        {"name": "task_duration_seconds", "labels": {"agent": agent}, "value": amount},
        {"name": "agent_cpu_seconds_total", "labels": {"agent": agent}, "value": amount},
        {"name": "soak_envelopes_total", "type": "counter", "labels": {"agent": agent}, "value": 1},
        {"name": "queue_size", "labels": {"queue": agent}, "value": now, "ts": now},
    ]
    return {"v": 1, "source": source, "agent": agent, "ts": now, "samples": samples}


def properties(intent: Intent) -> pika.BasicProperties:
    """The properties of an envelope's publish."""
    return pika.BasicProperties(
        content_type="application/json",
        delivery_mode=2,
        message_id=intent.message_id,
        app_id=intent.agent,
        headers={"source": intent.source, "published_at_ns": time.time_ns()},
    )


def main(name: str, seed: str, record: str, amqp_url: str, ids: str) -> None:
    """Run one."""
    publisher = RawPublisher(name, seed, Record(Path(record)), amqp_url, with_sequence=ids == "sequence")
    signal.signal(signal.SIGTERM, lambda *_: setattr(publisher, "is_stopping", True))
    parent.watch()
    publisher.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
