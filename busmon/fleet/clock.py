"""Steps of the wall clock, seen by a clock that nobody sets.

The wall clock is set by people and by time daemons, sometimes by days and back again. What a shard remembers is in the
wall clock's seconds, so the shard is told of each step. One thread.
"""

import time

TOLERANCE_SECONDS = 1.0
"""A time daemon that goes slowly corrects less than that between two looks."""


class Steps:
    """The difference of the wall clock and the time since the boot, which goes on while the machine sleeps."""

    def __init__(self) -> None:
        self._difference = _difference()

    def step(self) -> float:
        """Return by how many seconds the wall clock was set since the last look; 0 if it wasn't."""
        before, self._difference = self._difference, _difference()
        seconds = self._difference - before
        return seconds if abs(seconds) > TOLERANCE_SECONDS else 0.0


def _difference() -> float:
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
