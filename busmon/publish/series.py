"""All series of one `Telemetry`: how many there may be, and what the publishing thread takes from them.

Instruments add series from any thread, without a lock; one thread takes.
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from busmon.publish.batch import Row, Table
from busmon.publish.pending import Discard, Pending, Shared

if TYPE_CHECKING:
    from busmon.publish.instruments import Gauge

MAX_SERIES = 10_000

_logger = logging.getLogger("busmon")


class Series:
    """The series, in the order in which they were first bound.

    Attributes:
        shared: what they have in common.
        beyond: stands in for every series that there is no room for.
    """

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.beyond = Discard(shared)
        self._bound: list[_Bound] = []
        self._functions: dict[Gauge, Callable[[], float]] = {}
        self._failing: set[Gauge] = set()
        self._is_full = False

    def has_room(self) -> bool:
        """Whether one more series may be added; that there is none is logged once."""
        if len(self._bound) < MAX_SERIES:
            return True
        if not self._is_full:
            self._is_full = True
            _logger.warning("%s series are in use; samples of any further one are dropped and counted", MAX_SERIES)
        return False

    def add(self, table: Table, labelvalues: tuple[str, ...], pending: Pending) -> None:
        """Take this series' samples from now on."""
        self._bound.append(_Bound(table, labelvalues, pending))

    def read_before_take(self, gauge: "Gauge", function: Callable[[], float]) -> None:
        """Set the gauge to what the function returns, at each take."""
        self._functions[gauge] = function

    def take(self, now: float) -> tuple[list[Row], int]:
        """Every sample gathered since the last take, and the number of calls that were discarded since."""
        self._read()
        with self.shared.lock:
            self.shared.now = now
            rows = [
                Row(bound.table, bound.labelvalues, *taken)
                for bound in tuple(self._bound)
                if (taken := bound.pending.take()) is not None
            ]
            self.beyond.take()
            discarded, self.shared.discarded = self.shared.discarded, 0
        return rows, discarded

    def reset(self) -> None:
        """Forget all samples, in a forked child: the parent publishes them."""
        self.shared.reset()
        for bound in self._bound:
            bound.pending.reset()
        self.beyond.reset()

    def _read(self) -> None:
        for gauge, function in tuple(self._functions.items()):
            try:
                gauge.set(function())
            except Exception as error:  # noqa: BLE001 - a program's function must not end the publishing thread
                if gauge not in self._failing:
                    self._failing.add(gauge)
                    _logger.warning("%r keeps its value: its function failed: %r", gauge, error)
            else:
                self._failing.discard(gauge)


class _Bound(NamedTuple):
    table: Table
    labelvalues: tuple[str, ...]
    pending: Pending
