"""All series of one `Telemetry`: how many there may be, and what the publishing thread takes from them.

Instruments add series from any thread, without a lock; one thread takes.
"""

import logging
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

from busmon.publish.batch import Row, Table
from busmon.publish.pending import Discard, Pending, Shared

MAX_SERIES = 10_000

_logger = logging.getLogger("busmon")


class Series:
    """The series, in the order in which they were first bound.

    Attributes:
        shared: what they have in common.
        beyond: takes the calls of every series that has no room.
    """

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.beyond = Discard(shared)
        self._bound: list[_Bound] = []
        self._ending: set[Pending] = set()
        self._watches: list[_Watch] = []
        self._functions: dict[object, tuple[Callable[[float], None], Callable[[], float]]] = {}
        self._failing: set[object] = set()
        self._is_full = False

    def has_room(self) -> bool:
        """Tell whether there is room for one more series; a lack is logged once."""
        if len(self._bound) < MAX_SERIES:
            return True
        if not self._is_full:
            self._is_full = True
            _logger.warning("%s series are in use; samples of any further one are dropped and counted", MAX_SERIES)
        return False

    def add(self, table: Table, labelvalues: tuple[str, ...], pending: Pending) -> None:
        """Take this series' samples from now on."""
        self._bound.append(_Bound(table, labelvalues, pending))

    def remove(self, instrument: object, pending: Pending) -> None:
        """Take the samples of this instrument's series once more, and then never again."""
        self._functions.pop(instrument, None)
        self._ending.add(pending)

    def read_before_take(self, gauge: object, set_: Callable[[float], None], function: Callable[[], float]) -> None:
        """Set the gauge to what the function returns, at each take."""
        self._functions[gauge] = set_, function

    def watch(self, look: Callable[[], None], interval_seconds: float) -> None:
        """Call a function on the publishing thread before a take, at most this often."""
        self._watches.append(_Watch(look, interval_seconds))

    def take(self, now: float) -> tuple[list[Row], int]:
        """Take all samples since the last take, and the number of calls that were discarded since."""
        self._read()
        with self.shared.lock:
            self.shared.now = now
            rows = [
                Row(bound.table, bound.labelvalues, *taken)
                for bound in tuple(self._bound)
                if (taken := bound.pending.take()) is not None
            ]
            self.beyond.take()
            self._forget_ended()
            discarded, self.shared.discarded = self.shared.discarded, 0
        return rows, discarded

    def reset(self) -> None:
        """Forget all samples, in a forked child: the parent publishes them."""
        self.shared.reset()
        for bound in self._bound:
            bound.pending.reset()
        self.beyond.reset()

    def inherit(self) -> None:
        """Go on with all samples, in a forked child whose parent publishes none."""
        self.shared.unlock()

    def _forget_ended(self) -> None:
        if self._ending:
            ended = {pending for pending in self._ending if not pending.items}
            self._ending -= ended
            # One by one and in place: other threads append meanwhile.
            for bound in [bound for bound in self._bound if bound.pending in ended]:
                self._bound.remove(bound)

    def _read(self) -> None:
        for watch in tuple(self._watches):
            watch.look_if_due()
        for gauge, (set_, function) in tuple(self._functions.items()):
            try:
                set_(function())
            except Exception as error:  # noqa: BLE001 - a program's function must not end the publishing thread
                if gauge not in self._failing:
                    self._failing.add(gauge)
                    _logger.warning("%r keeps its value: its function failed: %r", gauge, error)
            else:
                self._failing.discard(gauge)


class _Watch:
    """Something to look at now and then; that looking fails is logged once, until it works again."""

    def __init__(self, look: Callable[[], None], interval_seconds: float) -> None:
        self._look = look
        self._interval_seconds = interval_seconds
        self._due = 0.0
        self._is_failing = False

    def look_if_due(self) -> None:
        now = monotonic()
        if now < self._due:
            return
        self._due = now + self._interval_seconds
        try:
            self._look()
        except Exception as error:  # noqa: BLE001 - a program's function must not end the publishing thread
            if not self._is_failing:
                _logger.warning("%r failed, and is tried again: %r", self._look, error)
            self._is_failing = True
        else:
            self._is_failing = False


class _Bound(NamedTuple):
    table: Table
    labelvalues: tuple[str, ...]
    pending: Pending
