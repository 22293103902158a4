"""Topologies for tests: the built-in file with some lines replaced, declared in a virtual host of the test's own."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import pika
from pika.exceptions import AMQPError

from busmon.bus.topology import topology as topologies
from busmon.bus.topology.declare import declare
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from pika.adapters.blocking_connection import BlockingChannel

    from busmon.bus.topology.topology import Topology
    from busmon.demo.broker import PrivateNode

ONE_SHARD = ("shards = 4", "shards = 1")
"""With it, `Place.declared` declares a topology whose envelopes all reach `QUEUE`."""

TINY = ("x-max-length = 1_000_000", "x-max-length = 1")
"""With it, a shard's queue is soon full."""

QUEUE = "telemetry.fold.0"
PASSWORDS = {"publisher": "p-secret", "consumer": "c-secret", "operator": "o-secret"}


def topology_file(directory: Path, *replacements: tuple[str, str]) -> Path:
    """A copy of the built-in file with these texts replaced; each must be there."""
    text = topologies.find_built_in().read_text()
    for old, new in replacements:
        assert old in text, old
        text = text.replace(old, new)
    path = directory / "topology.toml"
    path.write_text(text)
    return path


class Place(NamedTuple):
    """A declared topology and how to reach it."""

    topology: Topology
    path: Path
    amqp_url: str

    @classmethod
    def declared(cls, amqp_url: str, directory: Path, *replacements: tuple[str, str]) -> Self:
        path = topology_file(directory, *replacements)
        topology = topologies.load(path, "telemetry")
        declare(topology, amqp_url, None, {})
        return cls(topology, path, amqp_url)

    def arguments(self) -> list[str]:
        """Return the arguments with which the command line finds it."""
        return ["--amqp-url", self.amqp_url, "--topology", str(self.path)]


def objects(node: PrivateNode, vhost: str) -> set[str]:
    """Name what somebody declared in a virtual host, as `exchanges/NAME` and `queues/NAME`."""
    found = {kind: json.loads(node.management("GET", f"/api/{kind}/{vhost}")) for kind in ("exchanges", "queues")}
    named = [(kind, each["name"]) for kind, objects in found.items() for each in objects]
    return {f"{kind}/{name}" for kind, name in named if name and not name.startswith("amq.")}


def arguments(place: Any, exchange: str = "telemetry") -> list[str]:
    """Return the arguments with which the command line reaches a node or a virtual host, and the topology there."""
    return ["--amqp-url", place.amqp_url, "--management-url", place.management_url, "--exchange", exchange]


def as_user(place: Any, user: str, password: str) -> str:
    """The URL under which another user reaches it."""
    return str(place.amqp_url.replace("guest:guest", f"{user}:{password}"))


class Taken(NamedTuple):
    """A body taken off a queue."""

    routing_key: str
    properties: pika.BasicProperties
    body: bytes


class Client:
    """A plain client, as a user would write one."""

    def __init__(self, amqp_url: str) -> None:
        self._connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
        self.channel = self._connection.channel()
        self.channel.confirm_delivery()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(AMQPError):
            self._connection.close()

    def publish(self, body: bytes, properties: pika.BasicProperties, exchange: str = "telemetry") -> None:
        """Publish, mandatory, and wait for the confirm."""
        self.channel.basic_publish(exchange, "agent.task", body, properties, mandatory=True)

    def publish_many(self, bodies: Iterable[tuple[bytes, pika.BasicProperties]], exchange: str) -> None:
        """Publish many, and wait for the broker once, when it has them all."""
        channel = self._connection.channel()
        channel.tx_select()
        for body, properties in bodies:
            channel.basic_publish(exchange, "agent.task", body, properties)
        channel.tx_commit()
        channel.close()

    def other_channel(self) -> BlockingChannel:
        """A further channel with confirms, for what the broker may close it for."""
        channel = self._connection.channel()
        channel.confirm_delivery()
        return channel

    def ready(self, queue: str) -> int:
        count: int = self.channel.queue_declare(queue, passive=True).method.message_count
        return count

    def until_ready(self, queue: str, count: int) -> None:
        """Wait until the queue has exactly so many bodies ready."""
        self.until(lambda: self.ready(queue) == count, f"{count} bodies in {queue}")

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until the condition holds."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"not in time: {what}"
            self._connection.process_data_events(0.02)

    def take(self, queue: str, count: int = 1, *, settle: bool = True) -> list[Taken]:
        """Take so many of the oldest bodies, which are then gone; if they aren't settled, until the connection ends."""
        return self._consume(queue, count, self.channel.basic_ack if settle else lambda _: None)

    def reject(self, queue: str, *, requeue: bool = False) -> None:
        """Take the oldest body and reject it."""
        self._consume(queue, 1, partial(self.channel.basic_reject, requeue=requeue))

    def _consume(self, queue: str, count: int, settle: Callable[[int], None]) -> list[Taken]:
        # A queue with single active consumer has no `basic.get`.
        self.channel.basic_qos(prefetch_count=count)
        taken: list[Taken] = []
        if count:
            for method, properties, body in self.channel.consume(queue, inactivity_timeout=PATIENCE_SECONDS):
                assert method is not None, f"{queue} gave {len(taken)} bodies, expected {count}"
                settle(method.delivery_tag)
                taken.append(Taken(method.routing_key, properties, body))
                if len(taken) == count:
                    break
            self.channel.cancel()
        return taken
