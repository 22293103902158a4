"""Log lines that publishers cause: at most a few of a kind and a user in a minute, and then the number of the others.

A line for each invalid body would let a publisher fill the disk. Metrics count all. One thread.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import structlog

LINES = 5
"""The lines of a kind and a user in a period."""

PERIOD_SECONDS = 60.0

MAX_KINDS = 1000
"""The kinds and users that are told apart at a time; the rest share the lines of one kind of each event."""

_log = structlog.get_logger(__name__)


class _Kind(NamedTuple):
    event: str
    kind: str
    user: str | None


@dataclass(slots=True)
class _Period:
    ends_at: float
    written: int = 0
    left_out: int = 0


class PacedLog:
    """The lines of one worker.

    Args:
        clock: the monotonic one.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._periods: dict[_Kind, _Period] = {}

    def write(self, level: int, event: str, kind: str, user: str | None, **fields: Any) -> bool:
        """Log a line, unless there are enough of this kind and user; return whether it is written.

        Args:
            level: as `logging` has it.
            event: the line's event.
            kind: tells lines of one event apart, as the reason of a refusal does; of few different values.
            user: the user that the broker checked; None if none was stated.
            fields: the line's keywords, which the publisher may have chosen.
        """
        period = self._find_period(_Kind(event, kind, user))
        if period.written >= LINES:
            period.left_out += 1
            return False
        period.written += 1
        _log.log(level, event, user=user, **fields)
        return True

    def beat(self) -> None:
        """Log how many lines were left out in the periods that have ended."""
        self._end(self._clock())

    def close(self) -> None:
        """Log how many lines were left out in all periods."""
        self._end(float("inf"))

    def _find_period(self, key: _Kind) -> _Period:
        now = self._clock()
        if key not in self._periods or self._periods[key].ends_at <= now:
            self._end(now)
            if len(self._periods) >= MAX_KINDS:
                key = _Kind(key.event, "", None)
        return self._periods.setdefault(key, _Period(now + PERIOD_SECONDS))

    def _end(self, now: float) -> None:
        for key in [key for key, period in self._periods.items() if period.ends_at <= now]:
            left_out = self._periods.pop(key).left_out
            if left_out:
                _log.warning("lane.lines_left_out", of=key.event, kind=key.kind, user=key.user, lines=left_out)
