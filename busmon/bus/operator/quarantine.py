"""The operator's access to the quarantine: list, replay, delete.

A body leaves the quarantine only by an acknowledgement, sent after the replay is confirmed or to delete the body. If
the command is interrupted, unacknowledged bodies are requeued in their place. One thread, with one connection for
reading and one for publishing: RabbitMQ under an alarm stops reading from a connection that has published.
"""

from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any, NamedTuple, Self

from pika import spec
from pika.adapters.blocking_connection import BlockingChannel

from busmon.bus.connect.connection import PIKA_ERRORS, translate, translating
from busmon.bus.connect.session import Session
from busmon.bus.operator.quarantined import Quarantined, read_quarantined
from busmon.bus.publish.publisher import ConfirmedPublisher
from busmon.bus.republish.relayed import find_relays
from busmon.bus.topology.topology import Topology
from busmon.errors import BrokerUnreachableError, BusError

_PATIENCE_SECONDS = 5
_MAX_PREFETCH = 65_535
_HINTS = {
    spec.ACCESS_REFUSED: "the quarantine takes an operator's permissions",
    spec.NOT_FOUND: "run `busmon topology declare`, which makes it",
}

Chosen = Callable[[Quarantined], bool]


class Step(NamedTuple):
    """One body of a look: its position, the total, and whether the body has left the quarantine."""

    body: Quarantined
    position: int
    total: int
    settled: bool


Steps = Generator[Step, None, None]


class Quarantine:
    """One look into the quarantine, which shows each body once and holds the bodies until it is closed.

    RabbitMQ delivers the oldest body first, unless an earlier look that was interrupted changed the order.

    Raises:
        BrokerUnreachableError: there is no broker, or the connection was lost; from every method.
        BrokerRefusedError: there is no quarantine, or this user may not read it; from every method.
    """

    def __init__(self, amqp_url: str, topology: Topology) -> None:
        self._amqp_url = amqp_url
        self._topology = topology
        self._queue = topology.quarantine
        self._relays = find_relays(topology.relays, amqp_url)
        self._session = Session(amqp_url, "busmon quarantine")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def total(self) -> int:
        """Count the bodies in the quarantine."""
        with translating(_HINTS):
            declared = self._session.call(lambda channel: channel.queue_declare(self._queue, passive=True))
        return int(declared.method.message_count)

    def look(self) -> Steps:
        """Yield each body that was in the quarantine when the iteration began."""
        for _, step in self._deliveries():
            yield step

    def replay(self, chosen: Chosen) -> Steps:
        """Publish the chosen bodies as first published, and remove them from the quarantine.

        Stopping between two steps leaves every body in exactly one place.

        Raises:
            PublishRefusedError: the broker refused a body again; this body and the later ones stay in quarantine.
        """
        publisher = ConfirmedPublisher(self._amqp_url, "busmon quarantine replay", signs=False)
        try:
            for tag, step in self._deliveries():
                settled = chosen(step.body)
                if settled:
                    self._publish(publisher, step.body)
                    self._take_out(tag, step.body)
                yield step._replace(settled=settled)
        finally:
            publisher.close()

    def delete(self, chosen: Chosen) -> Steps:
        """Delete the chosen bodies."""
        for tag, step in self._deliveries():
            settled = chosen(step.body)
            if settled:
                with translating(_HINTS):
                    self._settle(tag)
            yield step._replace(settled=settled)

    def delete_all(self) -> int:
        """Delete all bodies; return their number."""
        with translating(_HINTS):
            purged = self._session.call(lambda channel: channel.queue_purge(self._queue))
        return int(purged.method.message_count)

    def _deliveries(self) -> Iterator[tuple[int, Step]]:
        """Yield each delivery's tag and body; bodies that arrive meanwhile, replayed ones too, are left out."""
        total = self.total()
        with translating(_HINTS):
            self._session.call(lambda channel: channel.basic_qos(prefetch_count=min(total, _MAX_PREFETCH)))
        for position in range(1, total + 1):
            with translating(_HINTS):
                method, properties, body = self._session.call(self._next)
            if method is None:
                return
            found = read_quarantined(method.routing_key, properties, body, self._relays)
            yield method.delivery_tag, Step(found, position, total, settled=False)

    def _next(self, channel: BlockingChannel) -> Any:
        """Return the next delivery, or Nones if another consumer took the rest.

        A consumer is ten times as fast as `basic.get`, which goes through the queue's log each time.
        """
        return next(channel.consume(self._queue, inactivity_timeout=_PATIENCE_SECONDS), (None, None, None))

    def _publish(self, publisher: ConfirmedPublisher, body: Quarantined) -> None:
        """Publish a body, and again without a user if the broker refuses this one."""
        signed_by = publisher.user_id
        try:
            self._send(publisher, body)
        except BusError:
            if publisher.user_id == signed_by:
                raise
            self._send(publisher, body)

    def _send(self, publisher: ConfirmedPublisher, body: Quarantined) -> None:
        exchange = body.choose_exchange(publisher.user_id, self._topology)
        properties = body.make_replay_properties(publisher.user_id, exchange)
        publisher.publish(exchange, body.cause.routing_key, body.body, properties)

    def _take_out(self, tag: int, body: Quarantined) -> None:
        try:
            self._settle(tag)
        except PIKA_ERRORS as error:
            times = "once" if body.properties.message_id else "twice, since it has no message_id"
            raise BrokerUnreachableError(
                f"{body.identity} was replayed, but may still be in quarantine: {translate(error)}; "
                f"replayed again, it counts {times}"
            ) from error

    def _settle(self, tag: int) -> None:
        self._session.call(partial(self._acknowledge, tag))

    def _acknowledge(self, tag: int, channel: BlockingChannel) -> None:
        """Acknowledge a delivery, and wait for the answer to a second request: RabbitMQ answers no acknowledgement."""
        channel.basic_ack(tag)
        channel.queue_declare(self._queue, passive=True)
