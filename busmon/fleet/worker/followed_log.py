"""One shard's log, followed into the shard's files.

The loop calls `turn` many times a second. A probe of the worker's own shows that the worker has read the log to its
end. The reading begins where the replica's files end, or at the log's last snapshot; that of a broken log begins again
at the last snapshot. One thread, the consumer's.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from secrets import token_hex

import structlog

from busmon.bus.log.reading import LogEntry
from busmon.bus.log.shard_log import ShardLog
from busmon.errors import LogBrokenError, LogInterruptedError, LogReplacedError
from busmon.fleet.worker.owner_signs import OwnerSigns
from busmon.registry.shard.replicated_shard import ReplicatedShard
from busmon.replication.beginning import Beginning, Start
from busmon.replication.counting import Base, Counted, Position, Rebuilt
from busmon.replication.log_size import LogSize
from busmon.replication.participant import Participant, Role
from busmon.replication.records import Birth, Entry, Kind, Marker, Probe, Record, Release, decode, make_probe
from busmon.replication.spreading import Hosts, Namesakes
from busmon.status import ReplicaStatus

TICK_SECONDS = 5.0
"""The owner appends a record at least so often, so that followers can tell an idle log from a lost one."""

ALIVE_SECONDS = 3 * TICK_SECONDS
"""How long a host counts as alive after its last entry."""

SEGMENT_END_OFFSETS = 1
"""The offsets that RabbitMQ takes at the end of a segment."""

_log = structlog.get_logger(__name__)


class FollowedLog:
    """The log of one shard.

    Args:
        shard: follows the log, from its position on if it has one.
        log: the shard's stream.
        number: the shard's.
        host: the name of this host.
        kept_bytes: what the stream keeps in any case.
        progress: called for each entry, since many may have arrived together.
        at_reading: called before the shard's files are replaced.

    Attributes:
        is_current: the worker has read all that was in the log after it connected.
    """

    def __init__(  # noqa: PLR0913 - constructed in one place, by keyword
        self,
        shard: ReplicatedShard,
        log: ShardLog,
        *,
        number: int,
        host: str,
        kept_bytes: int,
        progress: Callable[[], object],
        at_reading: Callable[[], object] = lambda: None,
    ) -> None:
        self.is_current = False
        self._is_whole = shard.position is not None and shard.position.is_whole
        self._is_reading = not self._is_whole
        self._reached = shard.position
        self._at_reading = at_reading
        self._hosts = Hosts(ALIVE_SECONDS)
        self._namesakes = Namesakes(host, ALIVE_SECONDS, TICK_SECONDS / 2)
        self._announced_at = -math.inf
        self._shard = shard
        self._log = log
        self._number = number
        self._host = host
        self._progress = progress
        self._cause = "the log is being read"
        self._log_id = self._refusal = ""
        self._participant = Participant(host)
        self._beginning = Beginning()
        self._waiting: deque[LogEntry] = deque()
        self._offset = -1
        self._known_holes: set[int] = set()
        self._known_breaks: set[int] = set()
        self._probe = ""
        self._is_empty = True
        self._owner_signs = OwnerSigns()
        self._size = LogSize(kept_bytes)
        if shard.position is None:
            self._read_from(self._beginning.start)
        else:
            self._resume(shard.position)

    def _resume(self, position: Position) -> None:
        """Read on from the position of the replica's files."""
        place = position.place
        _log.info("followed_log.resuming", shard=self._number, offset=place.offset, number=place.number)
        self._cause = f"the log is being read on from record {place.number}"
        self._log_id, self._is_empty = place.log, False
        self._size.bytes, self._size.snapshot_bytes = position.log_bytes, position.snapshot_bytes
        self._owner_signs.resume(place.at)
        self._participant.counting.resume(place)
        self._log.read_from(place.offset, is_known=True)

    def _read_from(self, start: Start) -> None:
        self._waiting.clear()
        self._offset, self._size.bytes = -1, 0
        self._probe, self._announced_at = "", -math.inf
        self._log.read_from(start)

    # -- the state --------------------------------------------------------------------------------------------------

    @property
    def is_owning(self) -> bool:
        """Return whether the worker owns the shard."""
        return self._participant.role is Role.OWNING

    @property
    def has_owner(self) -> bool:
        """Return whether a host seems to own the shard."""
        return self._owner_signs.has_owner(self._participant.counting.place)

    @property
    def status(self) -> ReplicaStatus:
        """Return the replica's status."""
        place, signs = self._participant.counting.place, self._owner_signs
        state = "reading" if self._is_reading else str(self._participant.role) if self.is_current else "interrupted"
        return ReplicaStatus(
            state,
            "" if self.is_current else self._cause,
            offset=self._offset,
            number=place.number,
            digest=place.digest,
            epoch=place.epoch,
            owner_host=place.host,
            lag_seconds=None if self._is_reading else max(0.0, signs.silent_seconds - TICK_SECONDS),
            log_bytes=self._size.bytes,
            log_limit_bytes=self._size.kept_bytes,
            clock_ahead_seconds=signs.clock_ahead_seconds,
        )

    @property
    def obstacles(self) -> list[str]:
        """Return what keeps hosts from sharing the shard as they should, a line each."""
        short = self._size.obstacle
        found = (
            self._namesakes.find_obstacle(time.monotonic()),
            "" if self.is_owning else self._owner_signs.find_obstacle(self._participant.counting.place.host),
            f"the log of shard {self._number} is too short: {short}" if short else "",
        )
        return [line for line in found if line]

    @property
    def _position(self) -> Position:
        place, size = self._participant.counting.place, self._size
        return Position(place, size.bytes, size.snapshot_bytes, is_whole=self._is_whole)

    # -- following --------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Read what has arrived; no batch may be open unless the worker owns the shard.

        Raises:
            LogFormatError: an entry is of another version of busmon.
            RegistryError: a record can't be applied.
        """
        if self._refusal:
            return
        try:
            self._waiting += self._log.take(0.0)
            self._read_waiting()
            self._find_end()
            self._settle_admission()
        except LogReplacedError as error:
            self._rebuild(str(error))
        except LogInterruptedError as error:
            self._interrupt(error)

    def _read_waiting(self) -> None:
        """Read the entries that have arrived, up to one by which the shard is lost."""
        was_owning = self.is_owning
        while self._waiting and self.is_owning is was_owning and not self._refusal:
            self._read(self._waiting.popleft())

    def _settle_admission(self) -> None:
        """Write what records have brought to the host's counts, so that budgets hold for it; on a full disk later."""
        if self.is_current:
            with suppress(OSError):
                self._shard.settle_admission()

    def _find_end(self) -> None:
        """Append a probe for each connection: whoever has read it is at the log's end."""
        is_due = not self.is_current and not self._probe and time.monotonic() - self._announced_at >= TICK_SECONDS
        if is_due and self._log.is_connected:
            self._probe = token_hex(8)
            self._announce(self._probe)

    def _announce(self, nonce: str) -> None:
        self._announced_at = time.monotonic()
        place = self._participant.counting.place
        self._log.append(make_probe(nonce, self._host, place.snapshot, self._namesakes.writer))

    def _read(self, read: LogEntry) -> None:
        """Read one entry, and apply what counts; one that shows a broken log has the replica rebuilt."""
        self._progress()
        entry = decode(read.body)
        try:
            self._note_hole(read.offset)
            self._offset = read.offset
            self._size.bytes += len(read.body)
            in_flight = self._participant.in_flight
            self._beginning.note(entry, read.offset)
            for counted in self._participant.read(entry, read.offset):
                self._apply(counted, in_flight)
        except LogBrokenError as error:
            self._meet_break(read.offset, str(error))
            return
        self._note_host(entry)
        if isinstance(entry, Release):
            self._owner_signs.note_release(entry)
        # A host's sign of life is a probe without a nonce: nobody waits for it.
        if isinstance(entry, Probe) and self._probe and entry.nonce == self._probe:
            self._arrive()

    def _note_host(self, entry: Entry) -> None:
        """Note a host that is alive; entries of the past say nothing about that."""
        if self.is_current and not isinstance(entry, Birth) and entry.host:
            now = time.monotonic()
            self._hosts.note(entry.host, now)
            self._namesakes.note(entry, self._participant.owner, now)

    def _note_hole(self, offset: int) -> None:
        """Start again where offsets are missing: records may be, and nothing else shows it before the next record.

        RabbitMQ itself takes one offset at the end of each segment; a segment that was dropped had more.

        Raises:
            LogBrokenError: offsets are missing that weren't missing in an earlier reading.
        """
        is_hole = self._offset >= 0 and not 0 < offset - self._offset <= 1 + SEGMENT_END_OFFSETS
        if is_hole and self._participant.counting.has_base and offset not in self._known_holes:
            self._known_holes.add(offset)
            raise LogBrokenError(f"the offsets {self._offset + 1} to {offset - 1} are missing")

    def _apply(self, counted: Counted, in_flight: Record | None) -> None:
        if self._refusal:
            return
        if isinstance(counted, Base | Rebuilt):
            self._install(counted)
        elif isinstance(counted, Marker):
            self._owner_signs.note_claim()
            _log.info("followed_log.claimed", shard=self._number, host=counted.host, epoch=counted.epoch)
        elif isinstance(counted, Record):
            self._owner_signs.note_record(counted.at, is_live=self.is_current)
            if counted.kind is Kind.SNAPSHOT:
                self._size.begin(len(counted.payload))
                self._compare(counted)
            elif counted != in_flight:
                self._reached = self._position
                self._shard.follow(counted.payload, self._reached)

    def _install(self, counted: Base | Rebuilt) -> None:
        """Begin with the log's state, unless the log isn't the one that the replica is of."""
        log_id = self._participant.counting.place.log
        if self._log_id not in {"", log_id}:
            self._refuse(
                "the log was deleted and made again; the replica keeps the state of the former log until this host's "
                "registry directory is deleted"
            )
            return
        self._log_id, self._is_whole, self._reached = log_id, False, None
        if isinstance(counted, Rebuilt):
            self._size.begin(len(counted.snapshot.payload))
            self._shard.install(counted.snapshot.payload)
        elif not self._is_empty:
            self._shard.install(b"")
        self._is_empty = False

    def _refuse(self, cause: str) -> None:
        """Read this log no further, and serve what the replica has, unless that is a part."""
        _log.error("followed_log.refused", shard=self._number, cause=cause)
        self._refusal = self._cause = cause
        self._is_reading = not self._is_whole

    def _compare(self, snapshot: Record) -> None:
        """Compare the replica with a snapshot, and take over the snapshot if the replica has another state."""
        if snapshot.payload.startswith(b'{"digest":"' + self._shard.digest().encode()):
            return
        _log.error("followed_log.replica_differed", shard=self._number, number=snapshot.number)
        was_reading, self._is_reading, self._reached = self._is_reading, True, None
        self._at_reading()
        self._shard.install(snapshot.payload)
        self._is_reading = was_reading

    def _arrive(self) -> None:
        self._probe = ""
        if not self._participant.counting.has_base:
            self._go_back()
            return
        self.is_current, self._is_reading, self._cause = True, False, ""
        self._note_whole()
        place = self._participant.counting.place
        _log.info("followed_log.current", shard=self._number, offset=self._offset, number=place.number)

    def _note_whole(self) -> None:
        """Note in the files that the replica is whole, with the position of the last record that they have."""
        was_whole, self._is_whole = self._is_whole, True
        if not was_whole and self._reached is not None:
            self._shard.note(replace(self._reached, is_whole=True))

    def _go_back(self) -> None:
        """Begin to read further back in the log: what was read has no state to begin with."""
        start = self._beginning.go_back()
        if start is None:
            self._cause = "the log has neither its beginning nor a snapshot"
            return
        self._participant = Participant(self._host)
        self._read_from(start)

    # -- what fails -------------------------------------------------------------------------------------------------

    def _interrupt(self, error: LogInterruptedError) -> None:
        """Note that the log is interrupted: what was appended is in doubt."""
        self._lose_end(str(error))

    def _lose_end(self, cause: str) -> None:
        """Look for the log's end again."""
        _log.warning("followed_log.interrupted", shard=self._number, cause=cause)
        self.doubt(cause)
        self.is_current, self._probe, self._announced_at = False, "", -math.inf

    def doubt(self, cause: str) -> None:
        """Own the shard no longer: whether the last record counts will be read."""
        self._cause = cause
        self._participant.leave()

    def _meet_break(self, offset: int, cause: str) -> None:
        """Read a broken log again; where it is broken again, go on to its next snapshot."""
        if offset not in self._known_breaks:
            self._known_breaks.add(offset)
            self._rebuild(cause)
        elif self._participant.counting.has_base:
            self._begin_reading(cause)

    def _rebuild(self, cause: str) -> None:
        """Read the log again, without the state that the replica has."""
        self._begin_reading(cause)
        self._beginning = Beginning()
        self._read_from(self._beginning.start)

    def _begin_reading(self, cause: str) -> None:
        """Begin without a state."""
        _log.warning("followed_log.rebuilding", shard=self._number, cause=cause)
        self._participant = Participant(self._host)
        self.is_current, self._is_reading, self._cause = False, True, cause
        self._probe, self._announced_at = "", -math.inf
        self._at_reading()

    def announce(self) -> None:
        """Tell the other hosts that this host follows the log, now and then."""
        if self._log.is_connected and time.monotonic() - self._announced_at >= TICK_SECONDS:
            with suppress(LogInterruptedError):  # the next turn meets the interruption, too
                self._announce("")

    def close(self) -> None:
        """Close the connection to the log."""
        self._log.close()
