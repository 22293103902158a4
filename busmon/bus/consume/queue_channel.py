"""One queue's channel: opened, limited by a prefetch, consumed from, settled, and reopened when the broker closes it.

On the thread of the loop. Deliveries go straight from pika's callback to the listener. Each change of the channel's
state is counted, logged and reported to the listener once.
"""

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

from busmon.bus.connect.callbacks import surface, surfacing
from busmon.bus.connect.causes import Cause, Interruptions, LossCause, of_channel
from busmon.bus.connect.repeats import Repeats
from busmon.bus.connect.retry import Retry
from busmon.bus.connect.silence import Silence
from busmon.bus.consume.listener import Listener
from busmon.bus.consume.pausing import pausing
from busmon.bus.consume.settling import Settler
from busmon.bus.frames.delivery import Delivery
from busmon.bus.frames.peeler import CONSUMER_TAG
from busmon.bus.frames.peeling import Entrance
from busmon.status import ConsumerState

_log = structlog.get_logger(__name__)

# Each channel counts its deliveries from 1. This distance keeps the tags of a queue's channels distinct.
_TAGS_PER_CHANNEL = 1 << 48

# A quorum queue without a leader leaves `basic.consume` unanswered for a minute (RabbitMQ 3.10), and then costs the
# connection.
_ANSWER_SECONDS = 5.0
_CONSUME_SECONDS = 75.0
"""How long an open channel may take until it consumes: longer than the broker itself takes to give up."""

_CANCELLED = (
    "the broker cancelled the consumer: its queue was deleted or moved, "
    "or a delivery was not acknowledged within the consumer timeout (RabbitMQ 4.3)"
)


class QueueChannel:
    """The channel of one queue.

    Args:
        queue: consumed from.
        prefetch: how many deliveries may be unsettled.
        listener: gets the deliveries and the channel's states.
        ioloop: runs the connection.
        interruptions: counted up by cause at each end of a channel.
        voided: called with the queue when its unsettled deliveries have become void.
        gone: called when the broker can't find the queue.
        cancelled: called when the broker has cancelled the consumer, for any reason.

    Attributes:
        settler: settles the deliveries of the present channel; None while no channel is open.
    """

    def __init__(  # noqa: PLR0913 - constructed in one place, by keyword
        self,
        *,
        queue: str,
        prefetch: int,
        listener: Listener,
        ioloop: IOLoop,
        interruptions: Interruptions,
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
        self._void = surfacing(ioloop, listener.void)
        self._changed = surfacing(ioloop, listener.change)
        self._retry = Retry(ioloop, self._open)
        self._repeats = Repeats()
        self._overdue: Any = None
        self._connection: Connection | None = None
        self._channel: Channel | None = None
        self._base = -_TAGS_PER_CHANNEL
        self._state: tuple[str, str] = (ConsumerState.CONNECTING, "")
        self._told: tuple[str, str] = self._state
        self._blocked = self._publishing_blocked = ""
        self._draining = self._is_suspended = False
        self._cancelled: Callable[[], None] | None = None
        self._silence = Silence()
        self._last_tag = self._heard_tag = 0
        self._unserved_seconds = 0.0

    @property
    def unserved_seconds(self) -> float | None:
        """Return the seconds since the present channel's last delivery; None before its first delivery."""
        is_served = self.settler is not None and self._last_tag > self._base
        return self._unserved_seconds if is_served else None

    @property
    def unsettled(self) -> int:
        """Count the deliveries of the present channel that are not committed, held ones included."""
        return 0 if self.settler is None else self.settler.count_unsettled(self._last_tag)

    def on_connected(self, connection: Connection) -> None:
        """Open the channel on a new connection."""
        self._connection = connection
        self._open()

    def on_disconnected(self, cause: Cause) -> None:
        """Note that the connection is lost, or couldn't be opened."""
        self._connection = None
        self._blocked = ""
        self._retry.cancel()
        self._lose()
        self._change(ConsumerState.CONNECTING, cause)

    def block(self, reason: str) -> None:
        """Note that the broker has stopped reading from the consumer's connection; "" means that it resumed."""
        self._blocked = reason
        self._tell()

    def block_publishing(self, reason: str) -> None:
        """Note that the broker has stopped reading from the publishing connection; "" means that it resumed."""
        self._publishing_blocked = reason
        self._tell()

    def watch(self, elapsed_seconds: float) -> Cause | None:
        """Send the broker a request on the channel itself; return the cause if earlier requests stay unanswered.

        Heartbeats belong to the connection: the broker sends heartbeats even while one of the connection's channels is
        dead. A delivery counts as an answer, since answers queue behind the deliveries in flight.

        Args:
            elapsed_seconds: the time since the last call while the loop turned.
        """
        if self._channel is None or self._draining or self._blocked:
            self._silence.end()
            return None
        self._unserved_seconds += elapsed_seconds
        if self._last_tag != self._heard_tag:
            if self._heard_tag == self._base:
                _log.info("consumer.consuming", queue=self._queue)
            self._heard_tag = self._last_tag
            self._silence.start_over()
            self._unserved_seconds = 0.0
        is_consuming = self._state[0] == ConsumerState.CONSUMING
        silent_seconds = self._silence.add(elapsed_seconds)
        is_leaderless = self._channel.is_open and not is_consuming
        if silent_seconds >= _CONSUME_SECONDS if is_leaderless else self._silence.is_too_long:
            said = f"no answer on the channel of {self._queue!r} for {silent_seconds:.0f} s"
            return Cause(LossCause.CHANNEL_SILENT, said)
        if is_consuming and not self._silence.is_waiting and self._channel.is_open:
            self._channel.basic_qos(prefetch_count=self._prefetch, callback=self._on_answered)
            self._silence.ask()
        return None

    def _on_answered(self, _frame: Method) -> None:
        self._silence.end()

    def suspend(self) -> None:
        """Do not consume again after a loss of the channel; an open channel stays open."""
        self._is_suspended = True

    def resume(self) -> None:
        """Consume again, if the channel was lost meanwhile."""
        self._is_suspended = False
        if self._state[0] == ConsumerState.SUSPENDED:
            self._change(ConsumerState.CONNECTING)
            self._open()

    def renew(self, cause: Cause) -> None:
        """Drop the channel for this cause, and open another one."""
        channel = self._channel
        if channel is None or self._draining:
            return
        self._change(ConsumerState.CLOSED, cause)
        self._lose()
        if channel.is_open:
            channel.close()
        self._reopen(cause)

    def hold(self, tag: int) -> bool:
        """Keep a delivery unsettled until its release; return False if it is void, settled or held already."""
        held = self.settler is not None and self.settler.hold(tag)
        self._tell()
        return held

    def release(self, tag: int) -> None:
        """Acknowledge a held delivery, unless the delivery has become void."""
        if self.settler is not None:
            self.settler.release(tag)
        self._tell()

    def cancel(self, done: Callable[[], None]) -> None:
        """Stop consuming permanently; call `done` once the broker has agreed, at once if no channel is open."""
        self._draining = True
        self._retry.cancel()
        self._change(ConsumerState.DRAINING)
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
            self._change(ConsumerState.SUSPENDED)
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
        self._unserved_seconds = 0.0
        self.settler = Settler(channel, self._base, self._prefetch, self._ioloop)
        channel.add_on_cancel_callback(lambda _: self._on_cancel())
        # RabbitMQ applies a prefetch to the consumers that start after it.
        channel.basic_qos(prefetch_count=self._prefetch)
        entrance = self._entrance()
        channel.basic_consume(
            self._queue, _from_pika(self._base, entrance), consumer_tag=CONSUMER_TAG, callback=self._on_consuming
        )
        if self._peeling:
            connection = channel.connection
            entrance = pausing(entrance, self._prefetch, connection.pause)
            connection.peel(channel.channel_number, self._base, entrance)
        self._overdue = self._ioloop.call_later(_ANSWER_SECONDS, self._on_overdue)

    def _entrance(self) -> Entrance:
        """Make the function that every delivery passes; it runs ten thousand times a second, so it avoids look-ups."""
        deliver, ioloop = self._listener.deliver, self._ioloop

        def enter(deliveries: Sequence[Delivery]) -> None:
            self._last_tag = deliveries[-1].delivery_tag
            try:
                deliver(deliveries)
            except Exception as error:
                surface(ioloop, error)
                raise

        return enter

    def _on_consuming(self, _frame: Method) -> None:
        self._ioloop.remove_timeout(self._overdue)
        self._silence.end()
        self._retry.note_success()
        self._repeats.end()
        # With a single active consumer the broker answers a standby, too; only a delivery tells which one is active.
        _log.info("consumer.registered", queue=self._queue, prefetch=self._prefetch)
        self._change(ConsumerState.CONSUMING)

    def _on_overdue(self) -> None:
        cause = Cause(
            LossCause.UNANSWERED, f"no answer to basic.consume for {_ANSWER_SECONDS:g} s: has the queue a leader?"
        )
        self._interruptions.count(cause.name)
        _log.warning("consumer.consume_unanswered", queue=self._queue, detail=cause.detail)
        self._change(ConsumerState.CONNECTING, cause)

    def _on_cancel(self) -> None:
        channel = self._channel
        if channel is None or self._draining:
            return
        cause = Cause(LossCause.CONSUMER_CANCELLED, _CANCELLED)
        self._change(ConsumerState.CANCELLED, cause)
        self._lose()
        channel.close()
        self._on_cancelled()
        self._reopen(cause)

    def _on_close(self, channel: Channel, reason: Exception) -> None:
        # Any other reason is the end of the connection, or this process closed the channel.
        if channel is not self._channel or not isinstance(reason, ChannelClosedByBroker):
            return
        cause = of_channel(reason, missing=LossCause.QUEUE_MISSING)
        self._lose()
        if cause.name == LossCause.QUEUE_MISSING:
            self._change(ConsumerState.MISSING, cause)
            self._on_gone()
        else:
            self._change(ConsumerState.CLOSED, cause)
        self._reopen(cause)

    def _lose(self) -> None:
        if self._channel is not None:
            self._channel.connection.unpeel(self._channel.channel_number)
        self._channel = None
        if self._overdue is not None:
            self._ioloop.remove_timeout(self._overdue)
        if self.settler is not None:
            self.settler.stop()
            self.settler = None
            self._voided(self._queue)
            self._void()
        self._end_cancel()

    def _reopen(self, cause: Cause) -> None:
        self._interruptions.count(cause.name)
        if self._is_suspended:
            self._change(ConsumerState.SUSPENDED, cause)
        told = {"queue": self._queue, "cause": cause.name, "detail": cause.detail}
        if self._draining or self._is_suspended:
            _log.info("consumer.channel_lost", **told)
            return
        wait = self._retry.note_failure()
        if self._repeats.is_due(cause):
            _log.warning("consumer.channel_lost", **told, retry_in_seconds=wait)

    def _end_cancel(self) -> None:
        done, self._cancelled = self._cancelled, None
        if done is not None:
            done()

    def _change(self, state: str, cause: Cause | None = None) -> None:
        self._state = (ConsumerState.DRAINING if self._draining else state, str(cause or ""))
        self._tell()

    def _tell(self) -> None:
        """Report the state to the listener, if the state has changed."""
        state: tuple[str, str] = self._state
        held = self.settler is not None and self.settler.held
        blocked = self._blocked or (self._publishing_blocked if held else "")
        if blocked and state[0] == ConsumerState.CONSUMING:
            state = (ConsumerState.BLOCKED, f"connection_blocked: {blocked}")
        if state != self._told:
            self._told = state
            self._changed(*state)


def _from_pika(base: int, entrance: Entrance) -> Callable[[Channel, Basic.Deliver, BasicProperties, bytes], None]:
    """Make the callback by which pika gives a delivery to the entrance."""

    def deliver(_channel: Channel, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        entrance([Delivery.from_pika(method, properties, body, base)])

    return deliver
