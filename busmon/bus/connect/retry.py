"""The waits before a reconnect, and the retry with backoff of the consumer's connections and channels.

A `Retry` belongs to the thread of its loop; at most one retry is pending.
"""

import math
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

from pika.adapters.select_connection import IOLoop
from tenacity import wait_random_exponential

from busmon.backoff import Backoff

# A connection or channel that fails soon after opening keeps its long waits. One that lasted starts with short waits.
STEADY_SECONDS = 10.0


def reconnect_waits() -> Iterator[float]:
    """Yield the wait before each further attempt to connect, in seconds: growing, jittered, from 0.1 to 10.

    The jitter is full, so that a fleet doesn't reconnect all at once after the broker's restart.
    """
    backoff = Backoff(wait_random_exponential(multiplier=0.2, min=0.1, max=10))
    while True:
        yield backoff.next_wait()


class Retry:
    """The retries of one action: `action` is called some time after each failure."""

    def __init__(self, ioloop: IOLoop, action: Callable[[], None]) -> None:
        self._ioloop = ioloop
        self._action = action
        self._waits = reconnect_waits()
        self._worked_at = math.inf
        self._timer: Any = None

    @property
    def is_pending(self) -> bool:
        """Return whether a retry is planned."""
        return self._timer is not None

    def note_failure(self) -> float:
        """Plan the next try; return the seconds until then, rounded for the log."""
        if monotonic() - self._worked_at >= STEADY_SECONDS:
            self._waits = reconnect_waits()
        self._worked_at = math.inf
        self.cancel()
        wait = next(self._waits)
        self._timer = self._ioloop.call_later(wait, self._try)
        return round(wait, 2)

    def note_success(self) -> None:
        """Note that the last try succeeded."""
        self._worked_at = min(self._worked_at, monotonic())

    def cancel(self) -> None:
        """Cancel the planned retry, if there is one."""
        if self._timer is not None:
            self._ioloop.remove_timeout(self._timer)
            self._timer = None

    def _try(self) -> None:
        self._timer = None
        self._action()
