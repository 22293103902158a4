"""The reading of a shard's log: which of its entries count. Every reader of one log comes to the same answer.

A reader begins at the log's first entry, or at a complete snapshot that its owner has seen count: the owner's next
record says so. A reader that has a state already goes on at the last record of that state. A marker counts if its epoch
is greater than the current one. A record counts if the current owner wrote it and its number is the next. Other entries
are skipped, but a missing or different record of the current owner is an error: the reader must start again. Pure.
"""

from dataclasses import dataclass, replace

from busmon.errors import LogBrokenError
from busmon.replication.records import Birth, Entry, Kind, Marker, Probe, Record, Release


@dataclass(frozen=True, slots=True)
class Base:
    """The state of a log before any record: the reader's shard is empty from here on."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A snapshot that is the whole state of the reader's shard from here on."""

    snapshot: Record


Counted = Base | Rebuilt | Marker | Record


@dataclass(slots=True)
class Place:
    """The place in a log up to which a reader has counted.

    Attributes:
        log: the log's id; empty until the reader has a state to begin with.
        epoch: the current owner's; 0 before the first.
        owner: the id of the current owner's claim.
        host: the name of the current owner's host.
        number: the last counted record's; 0 before the first.
        digest: the last counted record's.
        at: the last counted record's time, in seconds since the epoch.
        offset: the last counted record's in the stream, that of its last part.
        snapshot: the offset of the last snapshot that a reader without a state can begin with; -1 if there is none.
    """

    log: str = ""
    epoch: int = 0
    owner: str = ""
    host: str = ""
    number: int = 0
    digest: str = ""
    at: float = 0.0
    offset: int = -1
    snapshot: int = -1


@dataclass(frozen=True, slots=True)
class Position:
    """The place in a log that a replica's files have reached, kept in the files with each record.

    Attributes:
        place: up to which the files have the log.
        log_bytes: the bytes of the log since its last snapshot.
        snapshot_bytes: the bytes of that snapshot.
        is_whole: the replica has been at the log's end since its files were begun. Until then the files have a part of
            what this host may have shown before.
    """

    place: Place
    log_bytes: int
    snapshot_bytes: int
    is_whole: bool


class Counting:
    """One reader of a log.

    Attributes:
        place: up to which it has counted.
    """

    def __init__(self) -> None:
        self.place = Place()
        self._parts: list[Record] = []
        self._parts_at = -1
        self._snapshot: Record | None = None
        self._snapshot_at = -1
        self._highest = 0
        self._is_resuming = False

    @property
    def has_base(self) -> bool:
        """Return whether the reader has a state to begin with."""
        return bool(self.place.log)

    def resume(self, place: Place) -> None:
        """Go on with a state that has the log up to this place; the entry at the place's offset is read next."""
        self.place, self._is_resuming = place, True

    def read(self, entry: Entry, offset: int) -> list[Counted]:
        """Read the next entry; return the parts of it that count, in order.

        Raises:
            LogBrokenError: records of the current owner are missing or differ, or the log is another one.
        """
        if self.has_base and entry.log != self.place.log and not (isinstance(entry, Probe) and not entry.log):
            raise LogBrokenError("the log is another one: its stream was deleted and made again")
        if self._is_resuming:
            return self._find_again(entry)
        if isinstance(entry, Probe | Release):
            return []
        if isinstance(entry, Birth):
            return self._begin(entry)
        return self._read_later(entry, offset) if self.has_base else self._read_baseless(entry, offset)

    def _find_again(self, entry: Entry) -> list[Counted]:
        """Compare the first entry after a resumption with the record that the state ends with.

        An owner's id and a record's number stand for one content only.
        """
        place = self.place
        last = isinstance(entry, Record) and (entry.epoch, entry.owner, entry.number, entry.part + 1)
        if not isinstance(entry, Record) or last != (place.epoch, place.owner, place.number, entry.parts):
            raise LogBrokenError(f"record {place.number} isn't at offset {place.offset}, where the replica has it")
        self._is_resuming = False
        return []

    def _begin(self, birth: Birth) -> list[Counted]:
        if self.has_base:
            raise LogBrokenError("the log begins a second time")
        self.place = Place(log=birth.log)
        return [Base()]

    # -- with a state -------------------------------------------------------------------------------------------------

    def _read_later(self, entry: Marker | Record, offset: int) -> list[Counted]:
        if isinstance(entry, Record):
            return self._read_record(entry, offset)
        if entry.epoch <= self.place.epoch:
            return []
        self._parts, self._snapshot_at = [], -1
        self.place = replace(self.place, epoch=entry.epoch, owner=entry.owner, host=entry.host)
        return [entry]

    def _read_record(self, part: Record, offset: int) -> list[Counted]:
        place = self.place
        if part.epoch < place.epoch:
            return []
        if (part.epoch, part.owner) != (place.epoch, place.owner):
            raise LogBrokenError(f"the marker of epoch {part.epoch} is missing")
        if part.number <= place.number:
            return []
        if part.number != place.number + 1 or part.part != len(self._parts):
            raise LogBrokenError(f"records are missing after number {place.number}")
        if part.before != place.digest:
            raise LogBrokenError(f"the record before number {part.number} is another one")
        if (record := self._join(part, offset)) is None:
            return []
        # The owner's record after its snapshot makes the snapshot a beginning for other readers.
        confirmed = self._snapshot_at if self._snapshot_at >= 0 else place.snapshot
        self._snapshot_at = self._parts_at if record.kind is Kind.SNAPSHOT else -1
        self.place = _place_after(record, offset, confirmed)
        return [record]

    def _join(self, part: Record, offset: int) -> Record | None:
        """Add a part; return the whole record if it was the last part."""
        if not self._parts:
            self._parts_at = offset
        self._parts.append(part)
        if len(self._parts) < part.parts:
            return None
        parts, self._parts = self._parts, []
        return replace(part, part=0, parts=1, payload=b"".join(each.payload for each in parts))

    # -- without a state ----------------------------------------------------------------------------------------------

    def _read_baseless(self, entry: Marker | Record, offset: int) -> list[Counted]:
        """Look for a complete snapshot, followed by the next record of its owner.

        No entry has a higher epoch than the current one, or a marker of that epoch is before it: so a snapshot of an
        owner that was replaced is recognized by a higher epoch before it.
        """
        if entry.epoch < self._highest:
            return []
        if entry.epoch > self._highest:
            self._highest, self._parts, self._snapshot = entry.epoch, [], None
        if isinstance(entry, Marker):
            return []
        if self._snapshot is not None and self._follows(self._snapshot, entry):
            return self._take(self._snapshot, entry, offset)
        if entry.part == 0:
            self._parts = []
        if entry.kind is Kind.SNAPSHOT and self._continues(entry):
            self._snapshot, self._snapshot_at = self._join(entry, offset), self._parts_at
        return []

    def _continues(self, part: Record) -> bool:
        return part.part == len(self._parts) and all(
            (part.owner, part.number, part.before) == (each.owner, each.number, each.before) for each in self._parts
        )

    @staticmethod
    def _follows(snapshot: Record, record: Record) -> bool:
        return (record.owner, record.number, record.before) == (snapshot.owner, snapshot.number + 1, snapshot.digest)

    def _take(self, snapshot: Record, part: Record, offset: int) -> list[Counted]:
        self._parts, self._snapshot = [], None
        self.place = _place_after(snapshot, offset, self._snapshot_at)
        return [Rebuilt(snapshot), *self._read_record(part, offset)]


def _place_after(record: Record, offset: int, snapshot: int) -> Place:
    return Place(
        record.log,
        record.epoch,
        record.owner,
        record.host,
        record.number,
        record.digest,
        record.at,
        offset,
        snapshot,
    )
