"""The operator's way through the quarantine: looking, replaying, deleting.

A body leaves the quarantine only by an acknowledgement, sent once its replay is confirmed, or because it is to be
deleted: wherever this is interrupted, what isn't acknowledged goes back to its place. One thread, and a connection each
for looking and for publishing, since RabbitMQ under an alarm stops reading from a connection that has published.
"""

from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any, NamedTuple, Self

from pika.adapters.blocking_connection import BlockingChannel

from busmon.bus.connection import ACCESS_REFUSED, NOT_FOUND, PIKA_ERRORS, translated, translating
from busmon.bus.publisher import ConfirmedPublisher
from busmon.bus.quarantined import Quarantined, quarantined
from busmon.bus.session import Session
from busmon.bus.topology import Topology
from busmon.errors import BrokerUnreachableError

_PATIENCE_SECONDS = 5
_MAX_PREFETCH = 65_535
_HINTS = {
    ACCESS_REFUSED: "the quarantine takes an operator's permissions",
    NOT_FOUND: "run `busmon topology declare`, which makes it",
}

Chosen = Callable[[Quarantined], bool]


class Step(NamedTuple):
    """One body looked at, the how-manieth of how many, and whether it has left the quarantine."""

    body: Quarantined
    position: int
    total: int
    settled: bool


Steps = Generator[Step, None, None]


class Quarantine:
    """One look into the quarantine: it shows each body once, and keeps it from others until it is closed.

    RabbitMQ gives the oldest first, unless a look that ended early has put some behind others.

    Raises:
        BrokerUnreachableError: there is no broker, or it was lost; from every method.
        BrokerRefusedError: there is no quarantine, or this user may not read it; from every method.
    """

    def __init__(self, amqp_url: str, topology: Topology) -> None:
        self._amqp_url = amqp_url
        self._exchange = topology.exchange
        self._queue = topology.quarantine
        self._session = Session(amqp_url, "busmon quarantine")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def total(self) -> int:
        """How many bodies there are to be looked at."""
        with translating(_HINTS):
            declared = self._session.call(lambda channel: channel.queue_declare(self._queue, passive=True))
        return int(declared.method.message_count)

    def look(self) -> Steps:
        """Each body that was there when the first was asked for."""
        for _, step in self._deliveries():
            yield step

    def replay(self, chosen: Chosen) -> Steps:
        """Publish the chosen bodies to the telemetry exchange as they once were, and take them out of the quarantine.

        Stopping between two steps leaves every body in exactly one place.

        Raises:
            PublishRefusedError: the broker took one no more than before; it stays in quarantine, as do those after it.
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
        """Delete everything; how many that was."""
        with translating(_HINTS):
            purged = self._session.call(lambda channel: channel.queue_purge(self._queue))
        return int(purged.method.message_count)

    def _deliveries(self) -> Iterator[tuple[int, Step]]:
        """Each delivery's tag and body; what comes in meanwhile, a replayed body among it, is left for later."""
        total = self.total()
        with translating(_HINTS):
            self._session.call(lambda channel: channel.basic_qos(prefetch_count=min(total, _MAX_PREFETCH)))
        for position in range(1, total + 1):
            with translating(_HINTS):
                method, properties, body = self._session.call(self._next)
            if method is None:
                return
            found = quarantined(method.routing_key, properties, body)
            yield method.delivery_tag, Step(found, position, total, settled=False)

    def _next(self, channel: BlockingChannel) -> Any:
        """The next delivery, or Nones where somebody else took what there was.

        A consumer gets ten times as many in a second as `basic.get` does, which goes through the queue's log each time.
        """
        return next(channel.consume(self._queue, inactivity_timeout=_PATIENCE_SECONDS), (None, None, None))

    def _publish(self, publisher: ConfirmedPublisher, body: Quarantined) -> None:
        publisher.publish(
            self._exchange, body.cause.routing_key, body.body, body.replayed_properties(publisher.user_id)
        )

    def _take_out(self, tag: int, body: Quarantined) -> None:
        try:
            self._settle(tag)
        except PIKA_ERRORS as error:
            times = "once" if body.properties.message_id else "twice, since it has no message_id"
            raise BrokerUnreachableError(
                f"{body.identity} was replayed, but may still be in quarantine: {translated(error)}; "
                f"replayed again, it counts {times}"
            ) from error

    def _settle(self, tag: int) -> None:
        self._session.call(partial(self._acknowledge, tag))

    def _acknowledge(self, tag: int, channel: BlockingChannel) -> None:
        """RabbitMQ doesn't answer an acknowledgement; that it answers what comes after it says that it was read."""
        channel.basic_ack(tag)
        channel.queue_declare(self._queue, passive=True)
