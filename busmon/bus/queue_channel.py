"""One queue's channel: opened, limited, consumed from, settled, and opened again when the broker ends it.

On the thread of the loop. Deliveries go straight from pika's callback to the listener; everything that can happen to
the channel is counted, logged and told to the listener once.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from pika import BasicProperties
from pika.adapters.select_connection import IOLoop
from pika.channel import Channel
from pika.connection import Connection
from pika.exceptions import ChannelClosedByBroker
from pika.frame import Method
from pika.spec import Basic

from busmon.bus.causes import Cause, of_channel
from busmon.bus.delivery import Delivery, Listener
from busmon.bus.peeling import CONSUMER_TAG, Entrance
from busmon.bus.retry import Retry
from busmon.bus.settling import Settler
from busmon.bus.silence import Silence
from busmon.bus.surfacing import surface, surfacing

_log = structlog.get_logger(__name__)

# Each channel counts its deliveries from 1; set so far apart, tags of two channels of a queue never meet.
_TAGS_PER_CHANNEL = 1 << 48

# A quorum queue without a leader leaves `basic.consume` unanswered for a minute (RabbitMQ 3.10), and then costs the
# connection.
_ANSWER_SECONDS = 5.0
_OPEN_SECONDS = 75.0
"""How long a channel may take until it consumes: longer than the broker itself takes to give up."""

_CANCELLED = (
    "the broker cancelled the consumer: its queue was deleted or moved, "
    "or a delivery was not acknowledged within the consumer timeout (RabbitMQ 4.3)"
)


class QueueChannel:
    """The channel of one queue.

    Args:
        queue: consumed from.
        prefetch: how many deliveries may be unsettled.
        listener: gets the deliveries, and is told what becomes of the channel.
        ioloop: what the connection runs on.
        interruptions: counted up by cause at each end of a channel.
        voided: called with the queue when its unsettled deliveries have become void.
        gone: called when the broker can't find the queue.
        cancelled: called when the broker has cancelled the consumer, for whatever reason.

    Attributes:
        settler: settles the deliveries of the present channel; None while there is none.
    """

    def __init__(  # noqa: PLR0913 - constructed in one place, by keyword
        self,
        *,
        queue: str,
        prefetch: int,
        listener: Listener,
        ioloop: IOLoop,
        interruptions: Counter[str],
        voided: Callable[[str], None],
        gone: Callable[[], None],
        cancelled: Callable[[], None],
        peeling: bool,
    ) -> None:
        self.settler: Settler | None = None
        self._queue = queue
        self._prefetch = prefetch
        self._ioloop = ioloop
        self._interruptions = interruptions
        self._voided = voided
        self._on_gone = gone
        self._on_cancelled = cancelled
        self._peeling = peeling
        self._listener = listener
        self._lost = surfacing(ioloop, listener.lost)
        self._changed = surfacing(ioloop, listener.changed)
        self._retry = Retry(ioloop, self._open)
        self._overdue: Any = None
        self._connection: Connection | None = None
        self._channel: Channel | None = None
        self._base = -_TAGS_PER_CHANNEL
        self._state = self._told = ("connecting", "")
        self._blocked = self._publishing_blocked = ""
        self._draining = self._is_suspended = False
        self._cancelled: Callable[[], None] | None = None
        self._silence = Silence()
        self._last_tag = self._heard_tag = 0

    @property
    def is_served(self) -> bool:
        """Tell if the present channel has had a delivery."""
        return self.settler is not None and self._last_tag > self._base

    @property
    def unsettled(self) -> int:
        """Count the deliveries of the present channel that are not committed, those that are held included."""
        return 0 if self.settler is None else self.settler.unsettled(self._last_tag)

    def connected(self, connection: Connection) -> None:
        """Open the channel on a new connection."""
        self._connection = connection
        self._open()

    def disconnected(self, cause: Cause) -> None:
        """The connection is gone, or couldn't be opened."""
        self._connection = None
        self._blocked = ""
        self._retry.cancel()
        self._lose(cause)
        self._change("connecting", cause)

    def block(self, reason: str) -> None:
        """The broker has stopped reading from the consumer's connection; with "" it resumed."""
        self._blocked = reason
        self._tell()

    def block_publishing(self, reason: str) -> None:
        """The broker has stopped reading what held deliveries are published by; with "" it resumed."""
        self._publishing_blocked = reason
        self._tell()

    def watch(self, elapsed_seconds: float) -> Cause | None:
        """Ask the broker a question on the channel itself; return the cause if earlier ones stay unanswered.

        Heartbeats are the connection's: the broker goes on sending them while a channel of the connection is dead. A
        delivery is as good as an answer, since answers queue behind the deliveries that are under way.

        Args:
            elapsed_seconds: since the last call, for so long as the loop turned.
        """
        if self._channel is None or self._draining or self._blocked:
            self._silence.end()
            return None
        if self._last_tag != self._heard_tag:
            self._heard_tag = self._last_tag
            self._silence.heard()
        is_consuming = self._state[0] == "consuming"
        silent_seconds, received = self._silence.add(elapsed_seconds), self._channel.connection.bytes_received
        if silent_seconds >= (self._silence.allowed_seconds(received) if is_consuming else _OPEN_SECONDS):
            return Cause("channel_silent", f"no answer on the channel of {self._queue!r} for {silent_seconds:.0f} s")
        if is_consuming and not self._silence.is_waiting and self._channel.is_open:
            self._channel.basic_qos(prefetch_count=self._prefetch, callback=self._on_answered)
            self._silence.ask(received)
        return None

    def _on_answered(self, _frame: Method) -> None:
        self._silence.end()

    def suspend(self) -> None:
        """Do not consume again if the channel is lost; it goes on with what it has."""
        self._is_suspended = True

    def resume(self) -> None:
        """Consume again, if the channel was lost meanwhile."""
        self._is_suspended = False
        if self._state[0] == "suspended":
            self._change("connecting")
            self._open()

    def hold(self, tag: int) -> bool:
        """Keep a delivery unsettled until it is released; False if it is void, settled or held already."""
        held = self.settler is not None and self.settler.hold(tag)
        self._tell()
        return held

    def release(self, tag: int) -> None:
        """Acknowledge a held delivery, unless it has become void."""
        if self.settler is not None:
            self.settler.release(tag)
        self._tell()

    def cancel(self, done: Callable[[], None]) -> None:
        """Stop consuming for good; calls `done` once the broker has agreed, or there is nothing to stop."""
        self._draining = True
        self._retry.cancel()
        self._change("draining")
        if self._channel is not None and self._channel.is_open:
            self._cancelled = done
            self._channel.connection.unpeel(self._channel.channel_number)
            self._channel.basic_cancel(CONSUMER_TAG, callback=lambda _: self._end_cancel())
        else:
            done()

    def _open(self) -> None:
        if self._connection is None or not self._connection.is_open or self._draining:
            return
        if self._is_suspended:
            self._change("suspended")
            return
        self._silence.end()
        self._silence.ask()
        self._channel = self._connection.channel(on_open_callback=self._consume)
        self._channel.add_on_close_callback(self._on_close)

    def _consume(self, channel: Channel) -> None:
        if self._draining:
            channel.close()
            return
        self._base += _TAGS_PER_CHANNEL
        self._last_tag = self._heard_tag = self._base
        self.settler = Settler(channel, self._base, self._prefetch, self._ioloop)
        channel.add_on_cancel_callback(lambda _: self._on_cancel())
        # RabbitMQ applies a prefetch to the consumers that start after it.
        channel.basic_qos(prefetch_count=self._prefetch)
        entrance = self._entrance()
        channel.basic_consume(
            self._queue, _from_pika(self._base, entrance), consumer_tag=CONSUMER_TAG, callback=self._on_consuming
        )
        if self._peeling:
            channel.connection.peel(channel.channel_number, self._base, entrance)
        self._overdue = self._ioloop.call_later(_ANSWER_SECONDS, self._on_overdue)

    def _entrance(self) -> Entrance:
        """What every delivery passes; every look-up saved here is saved ten thousand times a second."""
        queue, delivered, ioloop = self._queue, self._listener.delivered, self._ioloop

        def enter(deliveries: Sequence[Delivery]) -> None:
            self._last_tag = deliveries[-1].delivery_tag
            try:
                delivered(queue, deliveries)
            except Exception as error:
                surface(ioloop, error)
                raise

        return enter

    def _on_consuming(self, _frame: Method) -> None:
        self._ioloop.remove_timeout(self._overdue)
        self._silence.end()
        self._retry.worked()
        _log.info("consumer.consuming", queue=self._queue, prefetch=self._prefetch)
        self._change("consuming")

    def _on_overdue(self) -> None:
        cause = Cause("unanswered", f"no answer to basic.consume for {_ANSWER_SECONDS:g} s: has the queue a leader?")
        self._interruptions[cause.name] += 1
        _log.warning("consumer.consume_unanswered", queue=self._queue, detail=cause.detail)
        self._change("connecting", cause)

    def _on_cancel(self) -> None:
        channel = self._channel
        if channel is None or self._draining:
            return
        cause = Cause("consumer_cancelled", _CANCELLED)
        self._change("cancelled", cause)
        self._lose(cause)
        channel.close()
        self._on_cancelled()
        self._reopen(cause)

    def _on_close(self, channel: Channel, reason: Exception) -> None:
        # Any other reason than the broker's is the connection's end, or our own doing.
        if channel is not self._channel or not isinstance(reason, ChannelClosedByBroker):
            return
        cause = of_channel(reason, missing="queue_missing")
        self._lose(cause)
        if cause.name == "queue_missing":
            self._change("missing", cause)
            self._on_gone()
        else:
            self._change("closed", cause)
        self._reopen(cause)

    def _lose(self, cause: Cause) -> None:
        if self._channel is not None:
            self._channel.connection.unpeel(self._channel.channel_number)
        self._channel = None
        if self._overdue is not None:
            self._ioloop.remove_timeout(self._overdue)
        if self.settler is not None:
            self.settler.stop()
            self.settler = None
            self._voided(self._queue)
            self._lost(self._queue, str(cause))
        self._end_cancel()

    def _reopen(self, cause: Cause) -> None:
        self._interruptions[cause.name] += 1
        if self._is_suspended:
            self._change("suspended", cause)
        wait = None if self._draining or self._is_suspended else self._retry.failed()
        _log.warning(
            "consumer.channel_lost", queue=self._queue, cause=cause.name, detail=cause.detail, retry_in_seconds=wait
        )

    def _end_cancel(self) -> None:
        done, self._cancelled = self._cancelled, None
        if done is not None:
            done()

    def _change(self, state: str, cause: Cause | None = None) -> None:
        self._state = ("draining" if self._draining else state, str(cause or ""))
        self._tell()

    def _tell(self) -> None:
        """Tell the listener the state, if that is news."""
        state = self._state
        held = self.settler is not None and self.settler.held
        blocked = self._blocked or (self._publishing_blocked if held else "")
        if blocked and state[0] == "consuming":
            state = ("blocked", f"connection_blocked: {blocked}")
        if state != self._told:
            self._told = state
            self._changed(self._queue, *state)


def _from_pika(base: int, entrance: Entrance) -> Callable[[Channel, Basic.Deliver, BasicProperties, bytes], None]:
    """The callback by which pika gives a delivery to the entrance."""

    def deliver(_channel: Channel, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        entrance([Delivery.from_pika(method, properties, body, base)])

    return deliver
