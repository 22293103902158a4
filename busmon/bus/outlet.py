"""Bodies of held deliveries, published to one exchange with confirms, each again until the broker has stored it.

On a channel of its own, and on the thread of the loop. One that is refused waits aside and holds up no other: of those
one is tried again at a time, and all once that is taken. A body may arrive more than once, if its confirm was lost
with the connection; it is never confirmed without having arrived.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable
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
from busmon.bus.silence import Silence

SILENT_SECONDS = 30.0
"""How long the broker may leave a question unanswered: flow control may keep it from reading for a while."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Publication:
    """A body on its way; `reason` says why its last publish failed, `wanted` whether anybody still waits for it."""

    queue: str
    delivery: Delivery
    properties: Callable[[int], BasicProperties]
    confirmed: Callable[[], None]
    reason: str = ""
    wanted: bool = True


class Outlet:
    """Publishes to an exchange, with the routing key that the body came with.

    Args:
        exchange: where to.
        refused_as: what a returned or nacked body is counted as.
        ioloop: what the connection runs on.
        interruptions: counted up by cause each time that something is refused and the next try planned.
        refused: called with the cause then.
        advanced: called when there is something to send, or less than before.

    Attributes:
        obstacle: why something waits to be tried again, in a line; empty while nothing does.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - constructed in one place
        self,
        exchange: str,
        refused_as: str,
        ioloop: IOLoop,
        interruptions: Counter[str],
        refused: Callable[[Cause], None],
        advanced: Callable[[], None],
    ) -> None:
        self.obstacle = ""
        self._exchange = exchange
        self._refused_as = refused_as
        self._interruptions = interruptions
        self._refused = refused
        self._advanced = advanced
        self._retry = Retry(ioloop, self._try_again)
        self._blocked = ""
        self._connection: Connection | None = None
        self._channel: Channel | None = None
        self._ready = False
        # On a new channel one body is sent ahead, as the broker closes it if there is no such exchange.
        self._answered = False
        self._published = 0
        self._waiting: deque[_Publication] = deque()
        self._aside: deque[_Publication] = deque()
        self._probe: _Publication | None = None
        self._unconfirmed: dict[int, _Publication] = {}
        self._silence = Silence()

    @property
    def moving(self) -> bool:
        """Whether something waits for its confirm, and nothing is known to be in its way."""
        pending = self._waiting or any(publication.wanted for publication in self._unconfirmed.values())
        return bool(pending) and not self._blocked and (self._ready or not self._retry.pending)

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
        self._waiting, self._aside = (
            deque(publication for publication in publications if publication.queue != queue)
            for publications in (self._waiting, self._aside)
        )
        for publication in self._unconfirmed.values():
            publication.wanted = publication.wanted and publication.queue != queue
        self._clear_obstacle()

    def connected(self, connection: Connection) -> None:
        """Open the channel on a new connection."""
        self._connection = connection
        self._channel = connection.channel(on_open_callback=self._prepare)
        self._channel.add_on_close_callback(self._on_close)

    def disconnected(self) -> None:
        """The connection is gone."""
        self._connection = None
        self._silence.end()
        self._blocked = ""
        self._retry.cancel()

    def block(self, reason: str) -> None:
        """The broker has stopped reading; with "" it resumed."""
        self._blocked = reason
        self._pump()

    def watch(self, elapsed_seconds: float) -> Cause | None:
        """Ask a question while confirms are missing; return the cause if it stays unanswered (`QueueChannel.watch`)."""
        if self._channel is None or self._blocked or (self._ready and not self._unconfirmed):
            self._silence.end()
        elif self._silence.add(elapsed_seconds) >= SILENT_SECONDS:
            return Cause("channel_silent", f"no answer on the channel to {self._exchange!r} for {SILENT_SECONDS:g} s")
        elif not self._silence.is_waiting:
            self._silence.ask()
            if self._ready:
                self._channel.basic_qos(callback=lambda _: self._silence.end())
        return None

    def stop(self) -> None:
        """Send nothing more."""
        self._ready = False
        self._retry.cancel()

    def _prepare(self, channel: Channel) -> None:
        channel.add_on_return_callback(self._on_return)
        channel.confirm_delivery(self._on_confirm, callback=self._on_prepared)

    def _on_prepared(self, _frame: Method) -> None:
        self._ready = True
        self._silence.end()
        self._pump()

    def _pump(self) -> None:
        """Publish what waits, as far as the broker takes it."""
        while (channel := self._clear_to_send()) is not None:
            self._send(channel, self._waiting.popleft())
        self._advanced()

    def _clear_to_send(self) -> Channel | None:
        ready = self._ready and self._waiting and not self._blocked
        return self._channel if ready and (self._answered or not self._unconfirmed) else None

    def _send(self, channel: Channel, publication: _Publication) -> None:
        properties = publication.properties(channel.connection.params.frame_max)
        publication.reason = ""
        self._published += 1
        self._unconfirmed[self._published] = publication
        routing_key = short_text(publication.delivery.routing_key)
        channel.basic_publish(self._exchange, routing_key, publication.delivery.body, properties, mandatory=True)

    def _on_return(self, _channel: Channel, method: Basic.Return, _properties: BasicProperties, body: bytes) -> None:
        # A return names no publish, and its confirm follows as if all were well. Equal bodies in flight are all taken
        # for returned: stored twice is better than not at all.
        for publication in self._unconfirmed.values():
            if publication.delivery.body == body:
                publication.reason = f"returned: {method.reply_text}"

    def _on_confirm(self, frame: Method) -> None:
        self._answered = True
        answered = self._take(frame.method)
        if isinstance(frame.method, Basic.Nack):
            for publication in answered:
                publication.reason = "nacked: the queue behind it is full or has failed"
        for publication in answered:
            if not publication.reason:
                self._confirm(publication)
        if refused := [publication for publication in answered if publication.reason]:
            self._set_aside(refused)
        self._pump()

    def _take(self, method: Basic.Ack | Basic.Nack) -> list[_Publication]:
        tag = method.delivery_tag
        tags = [earlier for earlier in self._unconfirmed if earlier <= tag] if method.multiple else [tag]
        return [self._unconfirmed.pop(tag) for tag in tags]

    def _confirm(self, publication: _Publication) -> None:
        self._retry.worked()
        if publication is self._probe:
            self._give_back(self._aside)
        self._clear_obstacle()
        if publication.wanted:
            publication.confirmed()

    def _set_aside(self, refused: list[_Publication]) -> None:
        if self._probe in refused:
            self._probe = None
        self._aside.extend(publication for publication in refused if publication.wanted)
        if not self._retry.pending:
            self._fail(Cause(self._refused_as, refused[0].reason), len(refused))

    def _fail(self, cause: Cause, bodies: int) -> None:
        self.obstacle = str(cause)
        self._interruptions[cause.name] += 1
        _log.warning(
            "outlet.publish_refused",
            exchange=self._exchange,
            cause=cause.name,
            detail=cause.detail,
            bodies=bodies,
            retry_in_seconds=self._retry.failed(),
        )
        self._refused(cause)

    def _give_back(self, publications: Iterable[_Publication]) -> None:
        """Send these as if for the first time; among them is all that waits aside."""
        self._waiting.extend(publication for publication in publications if publication.wanted)
        self._aside.clear()
        self._probe = None

    def _clear_obstacle(self) -> None:
        if not self._aside and self._probe is None:
            self.obstacle = ""

    def _try_again(self) -> None:
        if self._channel is None and self._connection is not None:
            self.connected(self._connection)
        elif self._aside and self._probe is None:
            self._probe = self._aside.popleft()
            self._waiting.appendleft(self._probe)
        self._pump()

    def _on_close(self, _channel: Channel, reason: Exception) -> None:
        unconfirmed, self._unconfirmed = [*self._unconfirmed.values()], {}
        self._channel = None
        self._ready = self._answered = False
        self._published = 0
        self._give_back([*unconfirmed, *self._aside])
        if isinstance(reason, ChannelClosedByBroker):
            self._fail(of_channel(reason, missing="exchange_missing"), len(unconfirmed))
            self._advanced()
