"""One worker's part in a shard's log: it follows the log, claims the shard, and appends records as its owner.

A claim is a marker that the worker has read back as counted. A record counts only once the worker has read it back; a
publisher's confirm proves nothing. One record is in flight at a time. After any doubt about what the log has, the
worker claims again under another id: everything before the new marker has a known fate, and nothing after the marker
counts for the old id. Pure; the caller appends what `claim` and `append` return, and reads every entry.
"""

from enum import StrEnum
from secrets import token_hex

from busmon.replication.counting import Counted, Counting
from busmon.replication.records import Entry, Kind, Marker, Record, Release, encode, split


class Role(StrEnum):
    """The roles of a participant."""

    FOLLOWING = "following"
    CLAIMING = "claiming"
    OWNING = "owning"


class Participant:
    """The reader of a log that may own its shard.

    Args:
        host: the name of the worker's host.

    Attributes:
        owner: the id of the worker's last claim; empty if it has none.
        counting: the entries that count.
        role: what the worker is by what it has read.
        in_flight: the record that is appended and not read back; None if there is none.
    """

    def __init__(self, host: str) -> None:
        self.counting = Counting()
        self.role = Role.FOLLOWING
        self.in_flight: Record | None = None
        self._host = host
        self.owner = ""
        self._epoch = 0

    def claim(self) -> bytes:
        """Claim the shard under a new id; return the marker to append. Whatever was in flight is in doubt."""
        place = self.counting.place
        self.owner, self._epoch = token_hex(16), place.epoch + 1
        self.role, self.in_flight = Role.CLAIMING, None
        return encode(Marker(place.log, self._epoch, self.owner, self._host))

    def leave(self) -> None:
        """Follow from here on: the shard is lost, or something is in doubt."""
        self.role, self.in_flight, self.owner = Role.FOLLOWING, None, ""

    def release(self) -> bytes:
        """Follow from here on; return the entry to append, by which others know that the shard has no owner."""
        place = self.counting.place
        release = Release(place.log, place.epoch, self.owner, self._host)
        self.leave()
        return encode(release)

    def append(self, payload: bytes, at: float, kind: Kind = Kind.COMMIT) -> list[bytes]:
        """Return the entries to append for the next record; only the owner may, with nothing in flight."""
        assert self.role is Role.OWNING, self.role  # noqa: S101 - a caller's fault would break the log
        assert self.in_flight is None, self.in_flight  # noqa: S101
        place = self.counting.place
        self.in_flight = Record(
            place.log,
            place.epoch,
            place.owner,
            self._host,
            place.number + 1,
            place.digest,
            at,
            kind,
            part=0,
            parts=1,
            payload=payload,
            snapshot=place.snapshot,
        )
        return [*split(self.in_flight)]

    def read(self, entry: Entry, offset: int) -> list[Counted]:
        """Read the next entry; return the parts of it that count, in order. The own record is no longer in flight then.

        Raises:
            LogBrokenError: as of `Counting.read`.
        """
        counted = self.counting.read(entry, offset)
        if isinstance(entry, Marker):
            self._note_marker(entry, is_counted=bool(counted))
        elif self.in_flight is not None and self.in_flight in counted:
            self.in_flight = None
        return counted

    def _note_marker(self, marker: Marker, *, is_counted: bool) -> None:
        """Become the owner by the own marker, if it counts; lose the shard by another's."""
        if marker.owner == self.owner:
            self.role = Role.OWNING if is_counted and self.role is Role.CLAIMING else Role.FOLLOWING
        elif is_counted and self.role is Role.OWNING:
            self.leave()
