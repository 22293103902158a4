"""How many messages are ready in a queue, how many consume from it, and if it exists at all.

Asked for on a channel of its own, since the broker closes the channel that asks for a missing queue; so nothing here
disturbs one that consumes. On the thread of the loop. Every question gets one answer.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from pika.channel import Channel
from pika.connection import Connection
from pika.exceptions import ChannelClosedByBroker
from pika.frame import Method

from busmon.bus.causes import Cause
from busmon.bus.connection import NOT_FOUND
from busmon.bus.silence import Silence


@dataclass(frozen=True, slots=True)
class Depth:
    """One queue's, None where it can't be known now.

    Attributes:
        ready: messages.
        consumers: of a queue with a single active consumer only that one.
        is_missing: the broker has no such queue.
    """

    ready: int | None = None
    consumers: int | None = None
    is_missing: bool = field(default=False, compare=False)


Answer = Callable[[Depth], None]


class Depths:
    """Asks for depths on the connection of the moment."""

    def __init__(self) -> None:
        self._missing: set[str] = set()
        self._channel: Channel | None = None
        # In the order of the questions, which is the order of the broker's answers.
        self._asked: dict[str, list[Answer]] = {}
        self._silence = Silence()

    def ask(self, connection: Connection | None, queue: str, answer: Answer) -> None:
        """Call `answer` with the queue's depth."""
        if connection is None:
            answer(Depth())
            return
        answers = self._asked.setdefault(queue, [])
        answers.append(answer)
        self._silence.ask(connection.bytes_received)
        if self._channel is None:
            self._channel = connection.channel(on_open_callback=self._declare_all)
            self._channel.add_on_close_callback(self._on_close)
        elif self._channel.is_open and len(answers) == 1:
            self._declare(self._channel, queue)

    def watch(self, elapsed_seconds: float) -> Cause | None:
        """Return the cause if the broker has left questions unanswered for too long; see `QueueChannel.watch`."""
        silent_seconds = self._silence.add(elapsed_seconds)
        if silent_seconds < self._silence.allowed_seconds(self._bytes_received()):
            return None
        return Cause("channel_silent", f"no answer to queue.declare for {silent_seconds:.0f} s")

    def _bytes_received(self) -> int:
        return 0 if self._channel is None else int(self._channel.connection.bytes_received)

    def _declare_all(self, channel: Channel) -> None:
        # A missing queue leaves those after it unanswered.
        self._asked = dict(sorted(self._asked.items(), key=lambda asked: asked[0] in self._missing))
        for queue in self._asked:
            self._declare(channel, queue)

    def _declare(self, channel: Channel, queue: str) -> None:
        channel.queue_declare(queue, passive=True, callback=partial(self._on_declared, queue))

    def _on_declared(self, queue: str, frame: Method) -> None:
        self._missing.discard(queue)
        self._answer(queue, Depth(frame.method.message_count, frame.method.consumer_count))

    def _answer(self, queue: str, depth: Depth) -> None:
        answers = self._asked.pop(queue, ())
        self._silence.end()
        if self._asked:
            self._silence.ask(self._bytes_received())
        for answer in answers:
            answer(depth)

    def _on_close(self, _channel: Channel, reason: Exception) -> None:
        self._channel = None
        if isinstance(reason, ChannelClosedByBroker) and reason.reply_code == NOT_FOUND and self._asked:
            missing = next(iter(self._asked))
            self._missing.add(missing)
            self._answer(missing, Depth(is_missing=True))
        for queue in [*self._asked]:
            self._answer(queue, Depth())
