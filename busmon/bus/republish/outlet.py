"""Bodies of held deliveries, published to one exchange with confirms and retried until the broker has stored each.

On a channel of its own, and on the thread of the loop. A refused body waits aside and delays no other. One refused body
at a time is retried; after its confirm all are retried. A body may be stored more than once, if its confirm was lost
with the connection. A body is never reported as confirmed without being stored.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import monotonic

import structlog
from pika import BasicProperties
from pika.adapters.select_connection import IOLoop
from pika.channel import Channel
from pika.connection import Connection
from pika.exceptions import ChannelClosedByBroker
from pika.frame import Method
from pika.spec import Basic

from busmon.bus.connect.causes import Cause, Interruptions, LossCause, of_channel
from busmon.bus.connect.repeats import Repeats
from busmon.bus.connect.retry import Retry
from busmon.bus.connect.silence import Silence
from busmon.bus.frames.delivery import Delivery
from busmon.bus.republish.properties import short_text

_REFUSALS_OF_A_CHANNEL = 3
"""A channel that has nacked so often is replaced: RabbitMQ 3.10 goes on to nack on a channel that was opened while the
leader of a queue was lost, until that node is back."""

_SLICE_SECONDS = 0.05
"""The longest time in which bodies are published, after which the loop has its turn: headers take up to 10 ms each."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Publication:
    """A body to publish; `reason` is the last publish's failure, `wanted` is False after the delivery became void."""

    queue: str
    delivery: Delivery
    properties: Callable[[int], BasicProperties]
    confirmed: Callable[[], None]
    reason: str = ""
    wanted: bool = True


class Outlet:
    """The publishes to one exchange, each with its delivery's routing key.

    Args:
        exchange: the exchange's name.
        refused_as: the cause that is counted for a returned or nacked body.
        ioloop: runs the connection.
        interruptions: counted up by cause each time that a body is refused and the retry planned.
        refused: called with the cause then.
        advanced: called when the number of bodies to send changes.

    Attributes:
        obstacle: the reason for which bodies wait for a retry, in a line; empty while none waits.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - constructed in one place
        self,
        exchange: str,
        refused_as: LossCause,
        ioloop: IOLoop,
        interruptions: Interruptions,
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
        self._repeats = Repeats()
        self._ioloop = ioloop
        self._is_planned = False
        self._blocked = ""
        self._connection: Connection | None = None
        self._channel: Channel | None = None
        self._ready = False
        # On a new channel one body is sent ahead, as the broker closes it if there is no such exchange.
        self._answered = False
        self._published = self._refusals = 0
        self._waiting: deque[_Publication] = deque()
        self._aside: deque[_Publication] = deque()
        self._probe: _Publication | None = None
        self._unconfirmed: dict[int, _Publication] = {}
        self._silence = Silence()

    @property
    def is_moving(self) -> bool:
        """Return whether a body waits for its confirm, and nothing is known to be in its way."""
        pending = self._waiting or any(publication.wanted for publication in self._unconfirmed.values())
        return bool(pending) and not self._blocked and (self._ready or not self._retry.is_pending)

    def publish(
        self,
        queue: str,
        delivery: Delivery,
        properties: Callable[[int], BasicProperties],
        confirmed: Callable[[], None],
    ) -> None:
        """Publish a delivery of this queue in the loop's next turn, or as soon as possible.

        Args:
            queue: the delivery's origin.
            delivery: its body and routing key are published.
            properties: makes the publish's properties, given the largest frame that may be sent, in bytes.
            confirmed: called once the broker has stored the body.
        """
        self._waiting.append(_Publication(queue, delivery, properties, confirmed))
        self._plan_next()

    def forget(self, queue: str) -> None:
        """Send nothing more of this queue, and report no confirm of it."""
        self._waiting, self._aside = (
            deque(publication for publication in publications if publication.queue != queue)
            for publications in (self._waiting, self._aside)
        )
        for publication in self._unconfirmed.values():
            publication.wanted = publication.wanted and publication.queue != queue
        self._clear_obstacle()

    def on_connected(self, connection: Connection) -> None:
        """Open the channel on a new connection."""
        self._connection = connection
        self._channel = connection.channel(on_open_callback=self._prepare)
        self._channel.add_on_close_callback(self._on_close)

    def on_disconnected(self) -> None:
        """Note that the connection is lost."""
        self._connection = None
        self._silence.end()
        self._blocked = ""
        self._retry.cancel()

    def block(self, reason: str) -> None:
        """Note that the broker has stopped reading; "" means that it resumed."""
        self._blocked = reason
        self._pump()

    def watch(self, elapsed_seconds: float) -> Cause | None:
        """Send a request while confirms are missing; return the cause if it stays unanswered (`QueueChannel.watch`)."""
        if self._channel is None or self._blocked or (self._ready and not self._unconfirmed):
            self._silence.end()
            return None
        silent_seconds = self._silence.add(elapsed_seconds)
        if self._silence.is_too_long:
            said = f"no answer on the channel to {self._exchange!r} for {silent_seconds:.0f} s"
            return Cause(LossCause.CHANNEL_SILENT, said)
        if not self._silence.is_waiting:
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
        """Publish the waiting bodies that the broker accepts now, a slice of time at a time."""
        ends_at = monotonic() + _SLICE_SECONDS
        while not self._is_planned and (channel := self._clear_to_send()) is not None:
            self._send(channel, self._waiting.popleft())
            if monotonic() > ends_at and self._waiting:
                self._plan_next()
        self._advanced()

    def _plan_next(self) -> None:
        """Publish no more in this turn of the loop: a slice for each call of `publish` would be no limit."""
        if not self._is_planned:
            self._is_planned = True
            self._ioloop.call_later(0, self._go_on)

    def _go_on(self) -> None:
        self._is_planned = False
        self._pump()

    def _clear_to_send(self) -> Channel | None:
        ready = self._ready and self._waiting and not self._blocked and self._refusals < _REFUSALS_OF_A_CHANNEL
        return self._channel if ready and (self._answered or not self._unconfirmed) else None

    def _send(self, channel: Channel, publication: _Publication) -> None:
        properties = publication.properties(channel.connection.params.frame_max)
        publication.reason = ""
        self._published += 1
        self._unconfirmed[self._published] = publication
        routing_key = short_text(publication.delivery.routing_key)
        channel.basic_publish(self._exchange, routing_key, publication.delivery.body, properties, mandatory=True)

    def _on_return(self, _channel: Channel, method: Basic.Return, _properties: BasicProperties, body: bytes) -> None:
        # A return has no delivery tag, and a normal confirm follows. All equal bodies in flight count as returned: a
        # body that is stored twice is better than a lost one.
        for publication in self._unconfirmed.values():
            if publication.delivery.body == body:
                publication.reason = f"returned: {method.reply_text}"

    def _on_confirm(self, frame: Method) -> None:
        self._answered = True
        answered = self._take(frame.method)
        if isinstance(frame.method, Basic.Nack):
            self._refusals += 1
            for publication in answered:
                publication.reason = "nacked: the queue behind it is full or has failed"
        for publication in answered:
            if not publication.reason:
                self._confirm(publication)
        if refused := [publication for publication in answered if publication.reason]:
            self._set_aside(refused)
        if self._refusals >= _REFUSALS_OF_A_CHANNEL and not self._unconfirmed:
            self._replace_channel()
        self._pump()

    def _replace_channel(self) -> None:
        """Open another channel; nothing is in flight on the present one."""
        channel, self._channel = self._channel, None
        self._ready = self._answered = False
        self._published = self._refusals = 0
        if channel is not None and self._connection is not None:
            channel.close()
            self.on_connected(self._connection)

    def _take(self, method: Basic.Ack | Basic.Nack) -> list[_Publication]:
        tag = method.delivery_tag
        tags = [earlier for earlier in self._unconfirmed if earlier <= tag] if method.multiple else [tag]
        return [self._unconfirmed.pop(tag) for tag in tags]

    def _confirm(self, publication: _Publication) -> None:
        self._retry.note_success()
        self._repeats.end()
        if publication is self._probe:
            self._give_back(self._aside)
        self._clear_obstacle()
        if publication.wanted:
            publication.confirmed()

    def _set_aside(self, refused: list[_Publication]) -> None:
        if self._probe in refused:
            self._probe = None
        self._aside.extend(publication for publication in refused if publication.wanted)
        if not self._retry.is_pending:
            self._fail(Cause(self._refused_as, refused[0].reason), len(refused))

    def _fail(self, cause: Cause, bodies: int) -> None:
        self.obstacle = str(cause)
        self._interruptions.count(cause.name)
        wait = self._retry.note_failure()
        if self._repeats.is_due(cause):
            _log.warning(
                "outlet.publish_refused",
                exchange=self._exchange,
                cause=cause.name,
                detail=cause.detail,
                bodies=bodies,
                retry_in_seconds=wait,
            )
        self._refused(cause)

    def _give_back(self, publications: Iterable[_Publication]) -> None:
        """Send these publications again as new ones; they include all that wait aside."""
        self._waiting.extend(publication for publication in publications if publication.wanted)
        self._aside.clear()
        self._probe = None

    def _clear_obstacle(self) -> None:
        if not self._aside and self._probe is None:
            self.obstacle = ""

    def _try_again(self) -> None:
        if self._channel is None and self._connection is not None:
            self.on_connected(self._connection)
        elif self._aside and self._probe is None:
            self._probe = self._aside.popleft()
            self._waiting.appendleft(self._probe)
        self._pump()

    def _on_close(self, channel: Channel, reason: Exception) -> None:
        if channel is not self._channel:
            return
        unconfirmed, self._unconfirmed = [*self._unconfirmed.values()], {}
        self._channel = None
        self._ready = self._answered = False
        self._published = self._refusals = 0
        self._give_back([*unconfirmed, *self._aside])
        if isinstance(reason, ChannelClosedByBroker):
            self._fail(of_channel(reason, missing=LossCause.EXCHANGE_MISSING), len(unconfirmed))
            self._advanced()
