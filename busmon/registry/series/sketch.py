"""Quantiles of a sliding window from counts in logarithmic bins: 1 % relative error, merged by addition.

The bins are DDSketch's (Masson, Rim, Lee: "DDSketch: a fast and fully-mergeable quantile sketch with relative-error
guarantees", VLDB 2019). A window is a ring of steps, so that an old step's place is used again and nothing grows.
Pure; any thread.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, exp, log, nan

RELATIVE_ERROR = 0.01
"""Of a quantile whose magnitude lies between `SMALLEST` and `GREATEST`; beyond them it is one of these two."""
SMALLEST, GREATEST = 1e-9, 1e12
ZERO = "z"
MAX_BINS = 4_839
"""How many there are: 2,419 magnitudes of either sign, and zero."""

_GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_GAMMA = log(_GAMMA)
_MIDDLE = 2 / (_GAMMA + 1)


@dataclass(frozen=True, slots=True)
class SketchWindow:
    """The last `seconds`, in `steps` that are aligned to the epoch."""

    seconds: float = 600.0
    steps: int = 5

    @property
    def step_seconds(self) -> float:
        """Return how long a step is; quantiles move on so often."""
        return self.seconds / self.steps

    def slot(self, now: float) -> int:
        """Return the ring's place for what is observed at `now`: 0 to `steps`, one more than a window has."""
        return int(now // self.step_seconds) % (self.steps + 1)

    def start(self, now: float) -> float:
        """Return the start of the step that `now` is in; a place with another start has counts of an earlier lap."""
        return now // self.step_seconds * self.step_seconds

    def bounds(self, now: float) -> tuple[float, float]:
        """Return the bounds of the window: its steps begin after the first and at the latest at the second."""
        last = self.start(now)
        return last - self.seconds - self.step_seconds, last


WINDOW = SketchWindow()


def bin_of(value: float) -> str:
    """Return the bin of a finite value: `p<i>` or `n<i>` for a magnitude in (gamma^(i-1), gamma^i], and `z` for 0."""
    if not value:
        return ZERO
    magnitude = min(max(abs(value), SMALLEST), GREATEST)
    return f"{'p' if value > 0 else 'n'}{ceil(log(magnitude) / _LOG_GAMMA)}"


@lru_cache(maxsize=2 * MAX_BINS)
def value_of(bin_: str) -> float:
    """Return the value that is at most `RELATIVE_ERROR` from each value of the bin.

    Raises:
        ValueError: there is no such bin.
    """
    if bin_ == ZERO:
        return 0.0
    sign, index = bin_[:1], int(bin_[1:])
    if sign not in {"p", "n"}:
        raise ValueError(f"expected a bin p<i>, n<i> or z, got {bin_!r}")
    magnitude = _MIDDLE * exp(index * _LOG_GAMMA)
    return magnitude if sign == "p" else -magnitude


def quantile(counts: Mapping[str, float], q: float) -> float:
    """Return the value of rank `q` (0 to 1) among the values that are counted by bin; NaN when there are none."""
    last = sum(counts.values()) - 1
    if last < 0:
        return nan
    seen, values = 0.0, sorted((value_of(bin_), count) for bin_, count in counts.items() if count > 0)
    for value, count in values:
        seen += count
        if seen > q * last:
            return value
    return values[-1][0]
