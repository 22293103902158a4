"""Waiting for several things at once on the loop, and for no longer than a given time."""

from collections.abc import Callable

from pika.adapters.select_connection import IOLoop


class Gather:
    """Calls `done` once: when all parts are done, or when the time is over.

    Args:
        parts: how many times `part` will be called.
        seconds: how long to wait for them.
    """

    def __init__(self, ioloop: IOLoop, parts: int, seconds: float, done: Callable[[], None]) -> None:
        self._ioloop = ioloop
        self._parts = parts
        self._done: Callable[[], None] | None = done
        self._timer = ioloop.call_later(seconds, self._finish)

    def part(self) -> None:
        """One of the parts is done."""
        self._parts -= 1
        if self._parts == 0:
            self._ioloop.remove_timeout(self._timer)
            self._finish()

    def _finish(self) -> None:
        done, self._done = self._done, None
        if done is not None:
            done()
