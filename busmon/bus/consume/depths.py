"""The depth of a queue: its ready messages and its consumers, and if the queue exists at all.

The requests use a channel of their own, since the broker closes a channel that asks for a missing queue. So no request
disturbs a consuming channel. On the thread of the loop. Every request gets one answer.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from pika import spec
from pika.channel import Channel
from pika.connection import Connection
from pika.exceptions import ChannelClosedByBroker
from pika.frame import Method

from busmon.bus.connect.causes import Cause, LossCause
from busmon.bus.connect.not_found import is_missing
from busmon.bus.connect.silence import Silence


@dataclass(frozen=True, slots=True)
class Depth:
    """The depth of one queue; each value is None while it isn't known.

    Attributes:
        ready: the ready messages.
        consumers: the consumers; a queue with a single active consumer counts only this consumer.
        is_missing: the broker has no such queue.
    """

    ready: int | None = None
    consumers: int | None = None
    is_missing: bool = field(default=False, compare=False)


Answer = Callable[[Depth], None]


class Depths:
    """The requests for depths on the present connection."""

    def __init__(self) -> None:
        self._refused: set[str] = set()
        self._channel: Channel | None = None
        # In the order of the requests, which is the order of the broker's answers.
        self._asked: dict[str, list[Answer]] = {}
        self._silence = Silence()

    def ask(self, connection: Connection | None, queue: str, answer: Answer) -> None:
        """Call `answer` with the queue's depth."""
        if connection is None:
            answer(Depth())
            return
        answers = self._asked.setdefault(queue, [])
        answers.append(answer)
        self._silence.ask()
        if self._channel is None:
            self._channel = connection.channel(on_open_callback=self._declare_all)
            self._channel.add_on_close_callback(self._on_close)
        elif self._channel.is_open and len(answers) == 1:
            self._declare(self._channel, queue)

    def watch(self, elapsed_seconds: float) -> Cause | None:
        """Return the cause if the broker has left requests unanswered for too long; see `QueueChannel.watch`."""
        silent_seconds = self._silence.add(elapsed_seconds)
        if not self._silence.is_too_long:
            return None
        return Cause(LossCause.CHANNEL_SILENT, f"no answer to queue.declare for {silent_seconds:.0f} s")

    def _declare_all(self, channel: Channel) -> None:
        # A queue that is missing or doesn't answer closes the channel, so the requests after it get no answer.
        self._asked = dict(sorted(self._asked.items(), key=lambda asked: asked[0] in self._refused))
        for queue in self._asked:
            self._declare(channel, queue)

    def _declare(self, channel: Channel, queue: str) -> None:
        channel.queue_declare(queue, passive=True, callback=partial(self._on_declared, queue))

    def _on_declared(self, queue: str, frame: Method) -> None:
        self._refused.discard(queue)
        self._answer(queue, Depth(frame.method.message_count, frame.method.consumer_count))

    def _answer(self, queue: str, depth: Depth) -> None:
        answers = self._asked.pop(queue, ())
        self._silence.end()
        if self._asked:
            self._silence.ask()
        for answer in answers:
            answer(depth)

    def _on_close(self, _channel: Channel, reason: Exception) -> None:
        self._channel = None
        if isinstance(reason, ChannelClosedByBroker) and reason.reply_code == spec.NOT_FOUND and self._asked:
            refused = next(iter(self._asked))
            self._refused.add(refused)
            self._answer(refused, Depth(is_missing=is_missing(reason.reply_code, reason.reply_text)))
        for queue in [*self._asked]:
            self._answer(queue, Depth())
