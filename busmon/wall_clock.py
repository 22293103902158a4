"""Steps of the wall clock, seen by a clock that nobody sets.

The wall clock is set by people and by time daemons, sometimes by days and back again. A machine that sleeps is no step
by the time since the boot, and is one by the monotonic clock, which rests meanwhile. One thread.
"""

import time

TOLERANCE_SECONDS = 1.0
"""A time daemon that goes slowly corrects less than that between two looks."""


class ClockSteps:
    """The steps of the wall clock since the last look.

    Args:
        clock: the clock that nobody sets, as `time.clock_gettime` names it.
    """

    def __init__(self, clock: int = time.CLOCK_BOOTTIME) -> None:
        self._clock = clock
        self._difference = self._measure()

    def step(self) -> float:
        """Return by how many seconds the wall clock was set since the last look; 0 if it wasn't."""
        before, self._difference = self._difference, self._measure()
        seconds = self._difference - before
        return seconds if abs(seconds) > TOLERANCE_SECONDS else 0.0

    def _measure(self) -> float:
        """Return the difference of the wall clock and the clock that nobody sets."""
        return time.time() - time.clock_gettime(self._clock)
