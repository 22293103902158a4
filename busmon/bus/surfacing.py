"""Errors of the caller's own code, raised inside a callback of pika's, surface from `ioloop.start()`.

pika takes whatever a callback raises while it reads for the loss of the connection: a worker with a full disk would
reconnect for ever instead of saying so.
"""

from collections.abc import Callable
from typing import NoReturn, ParamSpec

from pika.adapters.select_connection import IOLoop

P = ParamSpec("P")


def surfacing(ioloop: IOLoop, call: Callable[P, None]) -> Callable[P, None]:
    """The same call; what it raises also leaves the loop, which it ends."""

    def surfacing_call(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            call(*args, **kwargs)
        except Exception as error:
            surface(ioloop, error)
            raise

    return surfacing_call


def surface(ioloop: IOLoop, error: Exception) -> None:
    """Let the error leave the loop, in its next turn."""

    def leave() -> NoReturn:
        raise error

    ioloop.add_callback_threadsafe(leave)
