"""How many messages are ready in a queue, and how many consume from it.

Asked for on a channel of its own, since the broker closes the channel that asks for a missing queue; so nothing here
disturbs one that consumes. On the thread of the loop. Every question gets one answer.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from pika.channel import Channel
from pika.connection import Connection
from pika.frame import Method


class Depth(NamedTuple):
    """One queue's, None where it can't be known now.

    Attributes:
        ready: messages.
        consumers: of a queue with a single active consumer only that one.
    """

    ready: int | None = None
    consumers: int | None = None


Answer = Callable[[Depth], None]


class Depths:
    """Asks for depths on the connection of the moment."""

    def __init__(self) -> None:
        self._channel: Channel | None = None
        self._asked: dict[str, list[Answer]] = {}

    def ask(self, connection: Connection | None, queue: str, answer: Answer) -> None:
        """Call `answer` with the queue's depth."""
        if connection is None:
            answer(Depth())
            return
        answers = self._asked.setdefault(queue, [])
        answers.append(answer)
        if self._channel is None:
            self._channel = connection.channel(on_open_callback=self._declare_all)
            self._channel.add_on_close_callback(self._on_close)
        elif self._channel.is_open and len(answers) == 1:
            self._declare(self._channel, queue)

    def _declare_all(self, channel: Channel) -> None:
        for queue in self._asked:
            self._declare(channel, queue)

    def _declare(self, channel: Channel, queue: str) -> None:
        channel.queue_declare(queue, passive=True, callback=partial(self._on_declared, queue))

    def _on_declared(self, queue: str, frame: Method) -> None:
        for answer in self._asked.pop(queue, ()):
            answer(Depth(frame.method.message_count, frame.method.consumer_count))

    def _on_close(self, _channel: Channel, _reason: Exception) -> None:
        self._channel = None
        asked, self._asked = self._asked, {}
        for answers in asked.values():
            for answer in answers:
                answer(Depth())
