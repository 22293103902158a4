"""One shard's log in a worker that may own the shard: claimed, and appended to.

A commit of the owner waits in `append` until its record was read back. If that takes too long, or the log is
interrupted, or another host's marker counts, the worker owns the shard no longer: the batch is undone, and its
deliveries are folded again after the next claim. One thread, the consumer's.
"""

import time
from collections.abc import Iterable
from contextlib import suppress

import structlog

from busmon.errors import LogInterruptedError, LogReplacedError, UncountedError
from busmon.fleet.worker.followed_log import TICK_SECONDS, FollowedLog
from busmon.replication.counting import Position
from busmon.replication.participant import Role
from busmon.replication.records import Kind
from busmon.replication.spreading import choose_host

ANSWER_SECONDS = 10.0
"""How long the log may give nothing while the worker waits for its own entry."""

PROGRESS_SECONDS = 0.5

_log = structlog.get_logger(__name__)


class OwnedLog(FollowedLog):
    """The log of a shard that the worker may own. The commits of an owned shard wait for the log."""

    @property
    def is_snapshot_due(self) -> bool:
        """Return whether so much was appended since the last snapshot that the next is due."""
        return self.is_owning and self._size.is_snapshot_due

    @property
    def is_preferred(self) -> bool:
        """Return whether another host owns the shard, and this host should, as its share of the shards."""
        hosts, owner = self._hosts.find_alive(time.monotonic()), self._participant.counting.place.host
        is_free = self.is_current and self._participant.role is Role.FOLLOWING and owner in hosts - {self._host}
        return is_free and choose_host(hosts | {self._host}, self._number) == self._host

    def claim(self, *, is_served: bool) -> bool:
        """Claim the shard, and return whether the worker owns it; no batch may be open.

        Args:
            is_served: RabbitMQ delivers to this host, so no other host may own the shard. Without deliveries the first
                of several claims is as good as the last.

        Raises:
            LogFormatError, RegistryError: as of `turn`.
        """
        if not self.is_current:
            return False
        try:
            self._await_claim(time.monotonic() + ANSWER_SECONDS, is_served=is_served)
        except LogReplacedError as error:
            self._rebuild(str(error))
        except LogInterruptedError as error:
            self._interrupt(error)
        if self.is_owning:
            self._begin_owning()
        elif self._participant.role is Role.CLAIMING:
            self._lose_end(f"the log gave no claim back within {ANSWER_SECONDS:g} s")
        return self.is_owning

    def _await_claim(self, deadline: float, *, is_served: bool) -> None:
        self._log.append(self._participant.claim())
        while not self.is_owning and self.is_current and time.monotonic() < deadline:
            self._wait(deadline)
            self._read_waiting()
            if self._participant.role is Role.FOLLOWING and self.is_current:
                if not is_served:  # another host's claim came first
                    return
                self._log.append(self._participant.claim())

    def _wait(self, deadline: float) -> None:
        """Wait for entries; the loop stands still meanwhile, so the worker tells that it lives."""
        while not self._waiting and (left := deadline - time.monotonic()) > 0:
            self._waiting += self._log.take(min(left, PROGRESS_SECONDS))
            self._progress()

    def release(self) -> None:
        """Own the shard no longer, and tell the other hosts; nothing may be in flight."""
        if self.is_owning and self._log.is_connected:
            with suppress(LogInterruptedError):  # the other hosts notice the silence
                self._log.append(self._participant.release())

    def _begin_owning(self) -> None:
        place = self._participant.counting.place
        _log.info("followed_log.owning", shard=self._number, epoch=place.epoch, number=place.number)
        self._shard.append = self.append
        self._shard.begin_owning()

    def measure_clock_step(self, now: float) -> float:
        """Return the seconds by which this host's clock is ahead of the log's time; 0 where that can't be told."""
        return self._owner_signs.measure_clock_step(self._participant.counting.place, now)

    def append(self, payload: bytes, at: float) -> Position:
        """Append a record; return the position after it once it counts.

        Raises:
            UncountedError: another host owns the shard, or it isn't known whether the record counts.
            LogFormatError, RegistryError: as of `turn`.
        """
        self._append(payload, at, Kind.COMMIT)
        return self._position

    def snapshot(self, at: float) -> None:
        """Append a snapshot, and the record that confirms the snapshot to new readers; no batch may be open.

        Raises:
            UncountedError: as of `append`.
        """
        payload = self._shard.dump()
        self._append(payload, at, Kind.SNAPSHOT)
        self._append_empty(at)
        _log.info("followed_log.snapshot_appended", shard=self._number, bytes=len(payload))

    def _append_empty(self, at: float) -> None:
        self._shard.note(self.append(b"{}", at))

    def tick(self, now: float) -> None:
        """Append an empty record if no record was appended lately.

        Raises:
            UncountedError: as of `append`.
        """
        if self.is_owning and self._owner_signs.silent_seconds >= TICK_SECONDS:
            self._append_empty(now)

    def _append(self, payload: bytes, at: float, kind: Kind) -> None:
        if not self.is_owning:
            raise UncountedError(f"this host doesn't own shard {self._number}: {self._cause or 'another host does'}")
        try:
            self._send(self._participant.append(payload, at, kind))
            self._await_record()
        except LogReplacedError as error:
            self._rebuild(str(error))
        except LogInterruptedError as error:
            self._interrupt(error)
        if not self.is_owning:
            raise UncountedError(f"the log of shard {self._number} didn't count a record: {self._cause or 'lost'}")

    def _send(self, bodies: Iterable[bytes]) -> None:
        for body in bodies:
            self._log.append(body)

    def _await_record(self) -> None:
        """Read until the record in flight is read, or the shard is lost; each entry extends the wait."""
        while self._participant.in_flight is not None:
            self._wait(time.monotonic() + ANSWER_SECONDS)
            if not self._waiting:
                self._lose_end(f"the log gave no record back within {ANSWER_SECONDS:g} s")
                return
            self._read(self._waiting.popleft())
