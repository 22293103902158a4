"""Bodies of held deliveries, published to one exchange with confirms, each again until the broker has stored it.

On a channel of its own, and on the thread of the loop. A body may arrive more than once, if its confirm was lost with
the connection; it is never confirmed without having arrived.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from pika import BasicProperties
from pika.adapters.select_connection import IOLoop
from pika.channel import Channel
from pika.connection import Connection
from pika.exceptions import ChannelClosedByBroker
from pika.frame import Method
from pika.spec import Basic

from busmon.bus.causes import Cause, of_channel
from busmon.bus.delivery import Delivery
from busmon.bus.outgoing_properties import short_text
from busmon.bus.retry import Retry

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Publication:
    """A body on its way; `refusal` says why its last publish failed, `wanted` whether anybody still waits for it."""

    queue: str
    delivery: Delivery
    properties: Callable[[int], BasicProperties]
    confirmed: Callable[[], None]
    refusal: str = ""
    wanted: bool = True


class Outlet:
    """Publishes to an exchange, with the routing key that the body came with.

    Args:
        exchange: where to.
        refusal: what a returned or nacked body is counted as.
        ioloop: what the connection runs on.
        interruptions: counted up by cause at each refusal.
        refused: called with each refusal's cause.
        advanced: called when there is something to send, or less than before.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - constructed in one place
        self,
        exchange: str,
        refusal: str,
        ioloop: IOLoop,
        interruptions: Counter[str],
        refused: Callable[[Cause], None],
        advanced: Callable[[], None],
    ) -> None:
        self._exchange = exchange
        self._refusal = refusal
        self._interruptions = interruptions
        self._refused = refused
        self._advanced = advanced
        self._retry = Retry(ioloop, self._try_again)
        self._blocked = ""
        self._connection: Connection | None = None
        self._channel: Channel | None = None
        self._ready = False
        # After a refusal one body is sent ahead, and the others only once it is confirmed.
        self._trusted = False
        self._published = 0
        self._waiting: deque[_Publication] = deque()
        self._unconfirmed: dict[int, _Publication] = {}

    @property
    def moving(self) -> bool:
        """Whether something waits for its confirm, and nothing is known to be in its way."""
        pending = self._waiting or any(publication.wanted for publication in self._unconfirmed.values())
        return bool(pending) and not self._blocked and not self._retry.pending

    def publish(
        self,
        queue: str,
        delivery: Delivery,
        properties: Callable[[int], BasicProperties],
        confirmed: Callable[[], None],
    ) -> None:
        """Publish a delivery of this queue, now or as soon as possible.

        Args:
            queue: where it came from.
            delivery: its body and routing key are published.
            properties: makes those to publish it with, given the largest frame that may be sent, in bytes.
            confirmed: called once the broker has it.
        """
        self._waiting.append(_Publication(queue, delivery, properties, confirmed))
        self._pump()

    def forget(self, queue: str) -> None:
        """Send nothing more of this queue, and tell nobody of what was sent."""
        self._waiting = deque(publication for publication in self._waiting if publication.queue != queue)
        for publication in self._unconfirmed.values():
            publication.wanted = publication.wanted and publication.queue != queue

    def connected(self, connection: Connection) -> None:
        """Open the channel on a new connection."""
        self._connection = connection
        self._channel = connection.channel(on_open_callback=self._prepare)
        self._channel.add_on_close_callback(self._on_close)

    def disconnected(self) -> None:
        """The connection is gone."""
        self._connection = None
        self._blocked = ""
        self._retry.cancel()

    def block(self, reason: str) -> None:
        """The broker has stopped reading; with "" it resumed."""
        self._blocked = reason
        self._pump()

    def stop(self) -> None:
        """Send nothing more."""
        self._ready = False
        self._retry.cancel()

    def _prepare(self, channel: Channel) -> None:
        channel.add_on_return_callback(self._on_return)
        channel.confirm_delivery(self._on_confirm, callback=self._on_prepared)

    def _on_prepared(self, _frame: Method) -> None:
        self._ready = True
        self._pump()

    def _pump(self) -> None:
        """Publish what waits, as far as the broker takes it."""
        while (channel := self._clear_to_send()) is not None:
            self._send(channel, self._waiting.popleft())
        self._advanced()

    def _clear_to_send(self) -> Channel | None:
        ready = self._ready and self._waiting and not self._blocked and not self._retry.pending
        return self._channel if ready and (self._trusted or not self._unconfirmed) else None

    def _send(self, channel: Channel, publication: _Publication) -> None:
        properties = publication.properties(channel.connection.params.frame_max)
        self._published += 1
        self._unconfirmed[self._published] = publication
        routing_key = short_text(publication.delivery.routing_key)
        channel.basic_publish(self._exchange, routing_key, publication.delivery.body, properties, mandatory=True)

    def _on_return(self, _channel: Channel, method: Basic.Return, _properties: BasicProperties, body: bytes) -> None:
        # A return names no publish, and its confirm follows as if all were well. Equal bodies in flight are all taken
        # for returned: stored twice is better than not at all.
        for publication in self._unconfirmed.values():
            if publication.delivery.body == body:
                publication.refusal = f"returned: {method.reply_text}"

    def _on_confirm(self, frame: Method) -> None:
        answered = self._answered(frame.method)
        if isinstance(frame.method, Basic.Nack):
            for publication in answered:
                publication.refusal = "nacked: the queue behind it is full or has failed"
        refused = [publication for publication in answered if publication.refusal]
        for publication in answered:
            if not publication.refusal:
                self._confirm(publication)
        if refused:
            self._fail(Cause(self._refusal, refused[0].refusal), refused)
        self._pump()

    def _answered(self, method: Basic.Ack | Basic.Nack) -> list[_Publication]:
        tag = method.delivery_tag
        tags = [earlier for earlier in self._unconfirmed if earlier <= tag] if method.multiple else [tag]
        return [self._unconfirmed.pop(tag) for tag in tags]

    def _confirm(self, publication: _Publication) -> None:
        self._trusted = True
        self._retry.worked()
        if publication.wanted:
            publication.confirmed()

    def _fail(self, cause: Cause, refused: list[_Publication]) -> None:
        self._give_back(refused)
        self._trusted = False
        self._interruptions[cause.name] += 1
        _log.warning(
            "outlet.publish_refused",
            exchange=self._exchange,
            cause=cause.name,
            detail=cause.detail,
            bodies=len(refused),
            retry_in_seconds=self._retry.failed(),
        )
        self._refused(cause)

    def _give_back(self, publications: list[_Publication]) -> None:
        for publication in reversed(publications):
            if publication.wanted:
                publication.refusal = ""
                self._waiting.appendleft(publication)

    def _try_again(self) -> None:
        if self._channel is None and self._connection is not None:
            self.connected(self._connection)
        self._pump()

    def _on_close(self, _channel: Channel, reason: Exception) -> None:
        unconfirmed, self._unconfirmed = list(self._unconfirmed.values()), {}
        self._channel = None
        self._ready = self._trusted = False
        self._published = 0
        if isinstance(reason, ChannelClosedByBroker):
            self._fail(of_channel(reason, missing="exchange_missing"), unconfirmed)
            self._advanced()
        else:
            self._give_back(unconfirmed)
