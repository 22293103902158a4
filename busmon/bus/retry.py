"""Trying again, later after each failure: the one back-off of everything that the consumer keeps open.

On the thread of the loop; at most one try is pending.
"""

import math
from collections.abc import Callable
from time import monotonic
from typing import Any

from pika.adapters.select_connection import IOLoop

from busmon.bus.connection import reconnect_waits

# What opens and fails again at once goes on with longer waits: only what has lasted starts over with short ones.
STEADY_SECONDS = 10.0


class Retry:
    """Calls `action` some time after each failure."""

    def __init__(self, ioloop: IOLoop, action: Callable[[], None]) -> None:
        self._ioloop = ioloop
        self._action = action
        self._waits = reconnect_waits()
        self._worked_at = math.inf
        self._timer: Any = None

    @property
    def pending(self) -> bool:
        """Whether a try is to come."""
        return self._timer is not None

    def failed(self) -> float:
        """Plan the next try; returns the seconds until then, as a log shows them."""
        if monotonic() - self._worked_at >= STEADY_SECONDS:
            self._waits = reconnect_waits()
        self._worked_at = math.inf
        self.cancel()
        wait = next(self._waits)
        self._timer = self._ioloop.call_later(wait, self._try)
        return round(wait, 2)

    def worked(self) -> None:
        """Note that the last try succeeded."""
        self._worked_at = min(self._worked_at, monotonic())

    def cancel(self) -> None:
        """Plan no try."""
        if self._timer is not None:
            self._ioloop.remove_timeout(self._timer)
            self._timer = None

    def _try(self) -> None:
        self._timer = None
        self._action()
