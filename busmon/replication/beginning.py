"""The beginning of a reader without a state: the last snapshot of the log, found from the log's end. Pure.

Records and signs of life name the offset of the last snapshot. So the reader reads the log's last entries, and then
the log from that snapshot on. A log without a snapshot is read from its first entry.
"""

from busmon.replication.records import Entry, Probe, Record

FIRST, LAST = "first", "last"
"""The starts of a stream's reading that aren't offsets, as RabbitMQ has them: `last` is the stream's last chunk."""

Start = int | str

LEAST_STEP = 64
"""The offsets of the first step back, while no entry names a snapshot."""

_FACTOR = 16


class Beginning:
    """The search for the entry to begin with.

    Attributes:
        start: the start of the present reading.
    """

    def __init__(self) -> None:
        self.start: Start = LAST
        self._oldest: int | None = None
        self._snapshot = -1
        self._has_record = False
        self._step = LEAST_STEP

    def note(self, entry: Entry, offset: int) -> None:
        """Note an entry that was read."""
        if self._oldest is None:
            self._oldest = offset
        if isinstance(entry, Record | Probe):
            self._snapshot = max(self._snapshot, entry.snapshot)
            self._has_record = self._has_record or isinstance(entry, Record)

    def go_back(self) -> Start | None:
        """Return the start of the next reading, after one that has found no state; None if there is none.

        Only records say that a log has no snapshot: a host that has just begun knows none.
        """
        if self.start == FIRST:
            return None
        if self._snapshot >= 0 and self.start != self._snapshot:
            self.start = self._snapshot
        elif self._snapshot < 0 and not self._has_record and (self._oldest or 0) > self._step:
            self.start = (self._oldest or 0) - self._step
            self._step *= _FACTOR
        else:
            self.start = FIRST
        self._oldest = None
        return self.start
