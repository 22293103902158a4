"""The reading of a stream: a channel that consumes from an offset, and the entries that have arrived.

The broker sends as many entries as were acknowledged, so what waits here is bounded. Offsets have holes, and RabbitMQ
drops old segments without an error: a reader compares what it reads, and never counts offsets. On the thread of the
loop.
"""

from collections import deque
from collections.abc import Callable, Sequence
from struct import Struct
from typing import NamedTuple

from pika import BasicProperties
from pika.channel import Channel
from pika.connection import Connection
from pika.exceptions import ChannelClosedByBroker
from pika.spec import Basic

from busmon.bus.connect.causes import Cause, LossCause, of_channel
from busmon.bus.connect.silence import Silence
from busmon.bus.frames.delivery import Delivery
from busmon.bus.frames.peeler import CONSUMER_TAG

PREFETCH = 64
"""Entries that may be unacknowledged."""

READ_AHEAD_BYTES = 4_194_304
"""Of entries that wait; beyond them no entry is acknowledged, so the broker sends at most `PREFETCH` more."""

TAKE_BYTES = 8_388_608
"""The size at which a take ends, so that a reader that catches up has time for other work."""

OFFSET = "x-stream-offset"

_OFFSET = bytes([len(OFFSET)]) + OFFSET.encode() + b"l"
_LONG = Struct(">q")
_CANCELLED = "the broker cancelled the reader: the stream was deleted, or moved to another node"


class LogEntry(NamedTuple):
    """One entry of a stream.

    Attributes:
        offset: the entry's place in the stream.
        body: as it was appended.
    """

    offset: int
    body: bytes


class StreamReader:
    """The reader of one stream.

    Args:
        stream: the stream's name.
        interrupt: called with the cause when the reader can't go on.

    Attributes:
        is_reading: the broker has accepted the consumer.
    """

    def __init__(self, stream: str, interrupt: Callable[[Cause], None]) -> None:
        self.is_reading = False
        self._stream = stream
        self._interrupt = interrupt
        self._connection: Connection | None = None
        self._channel: Channel | None = None
        self._start: int | str = "first"
        self._is_known = False
        self._last: LogEntry | None = None
        self._is_resuming = False
        self._waiting: deque[LogEntry] = deque()
        self._waiting_bytes = 0
        self._tag = self._acked = 0
        self._silence = Silence()

    def on_connected(self, connection: Connection) -> None:
        """Read on a new connection, from the last entry that arrived."""
        self._connection = connection
        self._open()

    def on_disconnected(self) -> None:
        """Note that the connection is lost; entries that have arrived stay."""
        self._connection = None
        self._forget_channel()

    def read_from(self, start: int | str, *, is_known: bool = False) -> None:
        """Read from here on, on a new channel; drop the entries that wait.

        Args:
            start: an offset, `first`, or `last` for the stream's last chunk of entries.
            is_known: the stream must have an entry at the offset, or it is another one or lost its end.
        """
        self._start, self._is_known, self._last = start, is_known, None
        self._waiting.clear()
        self._waiting_bytes = 0
        channel = self._channel
        self._forget_channel()
        if channel is not None and channel.is_open:
            channel.close()
        if self._connection is not None:
            self._open()

    def take(self) -> list[LogEntry]:
        """Take the entries that have arrived, up to `TAKE_BYTES` and at least one if there is one."""
        taken: list[LogEntry] = []
        size = 0
        while self._waiting and size < TAKE_BYTES:
            entry = self._waiting.popleft()
            taken.append(entry)
            size += len(entry.body)
        self._waiting_bytes -= size
        self._give_credit()
        return taken

    @property
    def has_entries(self) -> bool:
        """Return whether an entry waits."""
        return bool(self._waiting)

    def watch(self, elapsed_seconds: float) -> Cause | None:
        """Send a request while nothing arrives; return the cause if it stays unanswered (`QueueChannel.watch`)."""
        if self._channel is None:
            return None
        silent_seconds = self._silence.add(elapsed_seconds)
        if self._silence.is_too_long:
            return self._explain_silence(silent_seconds)
        if self.is_reading and not self._silence.is_waiting:
            self._channel.basic_qos(prefetch_count=PREFETCH, callback=lambda _: self._on_answered())
            self._silence.ask()
        return None

    def _explain_silence(self, seconds: float) -> Cause:
        if self.is_reading and self._is_resuming:
            # The offset is behind the stream's end: the broker would wait for it without a word.
            return self._name_replacement(f"it ends before offset {self._resumed_at}, which was read")
        return Cause(LossCause.CHANNEL_SILENT, f"no answer on the channel of {self._stream!r} for {seconds:.0f} s")

    @property
    def _resumed_at(self) -> int | str:
        return self._start if self._last is None else self._last.offset

    def _name_replacement(self, what: str) -> Cause:
        return Cause(LossCause.LOG_REPLACED, f"{self._stream!r} was made again or lost its end: {what}")

    def _on_answered(self) -> None:
        if not self._is_resuming:
            self._silence.end()

    def _open(self) -> None:
        assert self._connection is not None  # noqa: S101 - the callers have checked
        self._silence.end()
        self._silence.ask()
        self._channel = self._connection.channel(on_open_callback=self._consume)
        self._channel.add_on_close_callback(self._on_close)

    def _consume(self, channel: Channel) -> None:
        if channel is not self._channel:
            channel.close()
            return
        self._tag = self._acked = 0
        self._is_resuming = self._is_known or self._last is not None
        channel.add_on_cancel_callback(lambda _: self._on_cancel(channel))
        channel.basic_qos(prefetch_count=PREFETCH)
        channel.basic_consume(
            self._stream,
            self._take_from_pika,
            consumer_tag=CONSUMER_TAG,
            arguments={OFFSET: self._resumed_at},
            callback=lambda _: self._on_consuming(channel),
        )
        channel.connection.peel(channel.channel_number, 0, lambda deliveries: self._on_deliveries(channel, deliveries))

    def _on_consuming(self, channel: Channel) -> None:
        if channel is self._channel:
            self.is_reading = True
            self._on_answered()

    def _take_from_pika(
        self, channel: Channel, method: Basic.Deliver, properties: BasicProperties, body: bytes
    ) -> None:
        self._on_deliveries(channel, [Delivery.from_pika(method, properties, body)])

    def _on_deliveries(self, channel: Channel, deliveries: Sequence[Delivery]) -> None:
        if channel is not self._channel:
            return
        self._silence.end()
        self._tag = deliveries[-1].delivery_tag
        entries = [LogEntry(_offset(delivery), delivery.body) for delivery in deliveries]
        if self._is_resuming:
            self._is_resuming = False
            if self._last is not None and entries[0].offset == self._last.offset:
                if entries[0] != self._last:
                    self._forget_channel()
                    self._interrupt(self._name_replacement(f"it has another entry at offset {self._last.offset}"))
                    return
                del entries[0]
        for entry in entries:
            self._waiting.append(entry)
            self._waiting_bytes += len(entry.body)
            self._last = entry
        self._give_credit()

    def _give_credit(self) -> None:
        is_due = self._acked < self._tag and self._waiting_bytes < READ_AHEAD_BYTES
        if is_due and self._channel is not None and self._channel.is_open:
            self._channel.basic_ack(self._tag, multiple=True)
            self._acked = self._tag

    def _on_cancel(self, channel: Channel) -> None:
        if channel is self._channel:
            self._forget_channel()
            self._interrupt(Cause(LossCause.CONSUMER_CANCELLED, _CANCELLED))

    def _on_close(self, channel: Channel, reason: Exception) -> None:
        if channel is self._channel and isinstance(reason, ChannelClosedByBroker):
            self._forget_channel()
            self._interrupt(of_channel(reason, missing=LossCause.QUEUE_MISSING))

    def _forget_channel(self) -> None:
        if self._channel is not None:
            self._channel.connection.unpeel(self._channel.channel_number)
        self._channel = None
        self.is_reading = self._is_resuming = False
        self._silence.end()


def _offset(delivery: Delivery) -> int:
    """Return the offset that the broker put into the headers."""
    encoded = delivery.encoded_properties
    at = encoded.find(_OFFSET)
    if at >= 0:
        return int(_LONG.unpack_from(encoded, at + len(_OFFSET))[0])
    return int((delivery.properties.headers or {})[OFFSET])
