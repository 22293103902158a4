"""Callbacks on pika's loop: waiting for several at once, and errors that leave the loop.

pika treats an exception of a callback that runs while pika reads as the loss of the connection. A worker with a full
disk would then reconnect without end and report nothing. So errors of the caller's code surface from `ioloop.start()`.
"""

from collections.abc import Callable
from typing import NoReturn, ParamSpec

from pika.adapters.select_connection import IOLoop

P = ParamSpec("P")


def surfacing(ioloop: IOLoop, call: Callable[P, None]) -> Callable[P, None]:
    """Wrap a call so that its error also leaves the loop, and ends the loop."""

    def surfacing_call(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            call(*args, **kwargs)
        except Exception as error:
            surface(ioloop, error)
            raise

    return surfacing_call


def surface(ioloop: IOLoop, error: Exception) -> None:
    """Raise the error from the loop, in the loop's next turn."""

    def leave() -> NoReturn:
        raise error

    ioloop.add_callback_threadsafe(leave)


class Gather:
    """A gathering of several parts: `done` is called once, when all parts are done or the time is over.

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
        """Note that one of the parts is done."""
        self._parts -= 1
        if self._parts == 0:
            self._ioloop.remove_timeout(self._timer)
            self._finish()

    def _finish(self) -> None:
        done, self._done = self._done, None
        if done is not None:
            done()
