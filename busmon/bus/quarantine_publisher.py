"""The consumer's way into quarantine: bodies published with confirms, each again until the broker has stored it.

On a connection of its own, opened at first need: under a memory or disk alarm the broker stops reading from every
connection that has published, and acks sent on it would wait for the alarm's end. On the thread of the loop. A body may
arrive more than once, if its confirm was lost with the connection; it is never confirmed without having arrived.
"""

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog
from pika import BasicProperties
from pika.adapters.select_connection import IOLoop
from pika.channel import Channel
from pika.connection import Connection, Parameters
from pika.exceptions import ChannelClosedByBroker
from pika.frame import Method
from pika.spec import Basic

from busmon.bus.causes import Cause, of_channel
from busmon.bus.delivery import Delivery
from busmon.bus.link import Link
from busmon.bus.quarantine_properties import quarantine_properties, short_text
from busmon.bus.retry import Retry

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Publication:
    """A body on its way; `refusal` says why its last publish failed, `wanted` whether anybody still waits for it."""

    queue: str
    delivery: Delivery
    headers: Mapping[str, str]
    confirmed: Callable[[], None]
    refusal: str = ""
    wanted: bool = True


class QuarantinePublisher:
    """Publishes to the quarantine exchange, with the routing key that the body came with.

    Args:
        parameters: where to connect, and under which name.
        exchange: the quarantine.
        ioloop: what the connection runs on.
        interruptions: counted up by cause at each loss and each refusal.
        blocked: called with the broker's reason when it stops reading, with "" when it resumes.
    """

    def __init__(
        self,
        parameters: Parameters,
        exchange: str,
        ioloop: IOLoop,
        interruptions: Counter[str],
        blocked: Callable[[str], None],
    ) -> None:
        # A publish that waits in the socket of a blocked connection is read after the alarm even if the connection is
        # given up: publishing it again on the next one would only store it twice.
        parameters.blocked_connection_timeout = None
        self._exchange = exchange
        self._interruptions = interruptions
        self._tell_blocked = blocked
        self._link = Link(parameters, ioloop, opened=self._on_open, lost=self._on_lost, blocked=self._on_blocked)
        self._retry = Retry(ioloop, self._try_again)
        self._started = False
        self._blocked = ""
        self._channel: Channel | None = None
        self._ready = False
        # After a refusal one body is sent ahead, and the others only once it is confirmed.
        self._trusted = False
        self._published = 0
        self._waiting: deque[_Publication] = deque()
        self._unconfirmed: dict[int, _Publication] = {}
        self._flushed: Callable[[], None] | None = None

    def publish(
        self, queue: str, delivery: Delivery, headers: Mapping[str, str], confirmed: Callable[[], None]
    ) -> None:
        """Publish a delivery of this queue, now or as soon as possible; calls `confirmed` once the broker has it."""
        self._waiting.append(_Publication(queue, delivery, headers, confirmed))
        if not self._started:
            self._started = True
            self._link.open()
        self._pump()

    def forget(self, queue: str) -> None:
        """Send nothing more of this queue, and tell nobody of what was sent: its deliveries will come again."""
        self._waiting = deque(publication for publication in self._waiting if publication.queue != queue)
        for publication in self._unconfirmed.values():
            publication.wanted = publication.wanted and publication.queue != queue
        self._end_flush()

    def flush(self, done: Callable[[], None]) -> None:
        """Call `done` once all is confirmed, or as soon as it's clear that it won't be for now."""
        self._flushed = done
        self._end_flush()

    def close(self, done: Callable[[], None]) -> None:
        """Close the connection; calls `done` once it's closed."""
        self._ready = False
        self._retry.cancel()
        self._link.close(done)

    def _on_open(self, connection: Connection) -> None:
        _log.info("quarantine.connected")
        self._open_channel(connection)

    def _open_channel(self, connection: Connection) -> None:
        self._channel = connection.channel(on_open_callback=self._prepare)
        self._channel.add_on_close_callback(self._on_close)

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
        self._end_flush()

    def _clear_to_send(self) -> Channel | None:
        ready = self._ready and self._waiting and not self._blocked and not self._retry.pending
        return self._channel if ready and (self._trusted or not self._unconfirmed) else None

    def _send(self, channel: Channel, publication: _Publication) -> None:
        delivery = publication.delivery
        frame_max = channel.connection.params.frame_max
        properties = quarantine_properties(delivery.properties, publication.headers, frame_max)
        self._published += 1
        self._unconfirmed[self._published] = publication
        routing_key = short_text(delivery.routing_key)
        channel.basic_publish(self._exchange, routing_key, delivery.body, properties, mandatory=True)

    def _on_return(self, _channel: Channel, method: Basic.Return, _properties: BasicProperties, body: bytes) -> None:
        # A return names no publish, and its confirm follows as if all were well. Equal bodies in flight are all taken
        # for returned: twice in quarantine is better than not at all.
        for publication in self._unconfirmed.values():
            if publication.delivery.body == body:
                publication.refusal = f"returned: {method.reply_text}"

    def _on_confirm(self, frame: Method) -> None:
        answered = self._answered(frame.method)
        if isinstance(frame.method, Basic.Nack):
            for publication in answered:
                publication.refusal = "nacked: the quarantine is full or has failed"
        refused = [publication for publication in answered if publication.refusal]
        for publication in answered:
            if not publication.refusal:
                self._confirm(publication)
        if refused:
            self._fail(Cause("quarantine_refused", refused[0].refusal), refused)
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
            "quarantine.publish_refused",
            exchange=self._exchange,
            cause=cause.name,
            detail=cause.detail,
            bodies=len(refused),
            retry_in_seconds=self._retry.failed(),
        )

    def _give_back(self, publications: list[_Publication]) -> None:
        for publication in reversed(publications):
            if publication.wanted:
                publication.refusal = ""
                self._waiting.appendleft(publication)

    def _try_again(self) -> None:
        if self._channel is None and (connection := self._link.connection) is not None:
            self._open_channel(connection)
        self._pump()

    def _on_close(self, _channel: Channel, reason: Exception) -> None:
        unconfirmed, self._unconfirmed = list(self._unconfirmed.values()), {}
        self._channel = None
        self._ready = self._trusted = False
        self._published = 0
        if isinstance(reason, ChannelClosedByBroker):
            self._fail(of_channel(reason, missing="exchange_missing"), unconfirmed)
            self._end_flush()
        else:
            self._give_back(unconfirmed)

    def _on_lost(self, cause: Cause, wait: float | None) -> None:
        self._retry.cancel()
        self._interruptions[cause.name] += 1
        _log.warning("quarantine.connection_lost", cause=cause.name, detail=cause.detail, retry_in_seconds=wait)
        self._blocked = ""
        self._tell_blocked("")
        self._end_flush()

    def _on_blocked(self, reason: str) -> None:
        self._blocked = reason
        if reason:
            self._interruptions["connection_blocked"] += 1
            _log.warning("quarantine.connection_blocked", reason=reason)
        else:
            _log.info("quarantine.connection_unblocked")
        self._tell_blocked(reason)
        self._pump()

    def _end_flush(self) -> None:
        if self._flushed is None:
            return
        pending = self._waiting or any(publication.wanted for publication in self._unconfirmed.values())
        stuck = self._blocked or self._retry.pending or self._link.waiting
        if stuck or not pending:
            done, self._flushed = self._flushed, None
            done()
