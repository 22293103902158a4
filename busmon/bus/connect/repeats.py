"""The log lines about a failure that repeats: one when it begins or changes, and then one in a minute. One thread."""

import math
from collections.abc import Callable
from time import monotonic

from busmon.bus.connect.causes import Cause

PERIOD_SECONDS = 60.0


class Repeats:
    """The repeats of one failing action.

    Args:
        clock: the monotonic one.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._cause: Cause | None = None
        self._told_at = -math.inf

    def is_due(self, cause: Cause) -> bool:
        """Return whether to log this failure now; it is then assumed to be logged."""
        now = self._clock()
        if cause == self._cause and now - self._told_at < PERIOD_SECONDS:
            return False
        self._cause, self._told_at = cause, now
        return True

    def end(self) -> None:
        """Note that the action succeeded: its next failure is logged."""
        self._cause = None
