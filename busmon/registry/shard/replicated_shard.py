"""A shard whose log decides on each commit: the files take what the log has counted, from this host or another.

A record names cells by their slots. Slots are the same on all hosts, since a key is appended to its value file only
when the record that brings the key counts, and a removal is a record of its own. A record brings the definitions of its
families and the changes of label places, too. The journal takes each record that counts, so that the readers of a
host's files follow a replica as they follow a shard. One thread.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from busmon.errors import RegistryError
from busmon.registry.admission.families import Families
from busmon.registry.shard import replica, restoring, resuming
from busmon.registry.shard.shard import Shard
from busmon.registry.storage.compaction import Doomed
from busmon.replication.counting import Position

if TYPE_CHECKING:
    from busmon.registry.admission.places import Line

FORGET_SECONDS = 3600.0
"""How often the owner has all hosts forget silent sources."""

Append = Callable[[bytes, float], Position]
"""Appends a record's payload with its time, and returns the position after the record once the record counts.

Raises an OSError if another host owns the shard, or if it is unknown whether the record counts: the batch is undone.
"""


class ReplicatedShard(Shard):
    """One host's replica of a shard; the owner's takes batches, too.

    It is opened with the files of its last run, if these can be trusted, and empty otherwise.

    Attributes:
        append: has a record counted; set once the log is followed.
        position: the position in the log that the files had reached when the replica was opened; None if it is empty.
        fault: why the files of the last run couldn't be opened; empty otherwise.
    """

    append: Append

    def __init__(self, registry_dir: Path, number: int, families: Families, lock: int, *, fsync: bool) -> None:
        super().__init__(registry_dir, number, families, lock, fsync=fsync)
        self.position: Position | None = None
        self.fault = ""
        self._told: set[str] = set()
        self._places: list[Line] = []
        self._forgot_at = 0.0
        self._is_admission_settled = True
        self.admission.keep_changes()

    def _take_up(self) -> None:
        """Take over the files of the last run, or begin without any."""
        self.position = resuming.find_position(self._directory, self._number)
        if self.position is not None:
            try:
                self._bring_up()
            except RegistryError as error:
                self.position, self.fault = None, str(error)
                with suppress(AttributeError):  # no journal was opened, so no other file was
                    self._files.close()
            else:
                return
        self._at_reading()
        resuming.begin(self._directory, self._number)
        self._begin()
        self._bring_up()

    # -- the owner ------------------------------------------------------------------------------------------------

    def begin_owning(self) -> None:
        """Go on as the owner, with the state that the log has brought."""
        self.settle_admission()
        self._note_told()
        self._places = []
        self.admission.take_changes()

    def _note_told(self) -> None:
        """Note the families whose definitions the log has brought."""
        self._told = {name for name, group in self.fold.groups.items() if group.cells}

    def _record(self, now: float) -> dict[str, Any]:
        """Make the record of the open batch; its new keys have their slots, and aren't written before it counts."""
        if self._files.is_detached:
            return super()._record(now)
        columns = self._files.columns.values()
        names = {name for column in columns for name in column.unwritten_families}
        keys = {column.name: [key.decode() for key in column.unwritten] for column in columns if column.unwritten}
        self._places += self.admission.take_changes()
        self._files.plan_keys()
        return {
            **self._state.record(now),
            "keys": keys,
            "families": self.families.define(names - self._told),
            "places": self._places,
            "forgets": self._is_forgetting_due(now),
        }

    def _make_journal_room(self, payload: bytes, _now: float) -> None:
        """Begin a new journal; what all replicas forget, a record says."""
        if not self._files.journal.has_room(payload) and not self._files.is_detached:
            self._state.begin_journal()

    def _count(self, record: Mapping[str, Any], payload: bytes) -> None:
        """Have the open batch counted by the log, and then by the files.

        Raises:
            OSError: as of `Append`.
            RegistryError: the record counts, and can't be applied here.
        """
        if self._files.is_detached:
            super()._count(record, payload)
            return
        try:
            position = self.append(payload, record["at"])
        except OSError:
            self._files.drop_plan()
            raise
        self._places = []
        self._told |= {definition["name"] for definition in record["families"]}
        try:
            self._files.write_keys()
            super()._count(record, self._with_position(payload, position))
        except OSError as error:
            raise self._make_stuck_error(error) from error

    def commit(self, now: float) -> None:
        """Have the open batch counted by the log, and apply it.

        Raises:
            OSError: as of `Append`.
            RegistryError: the batch counts, and can't be applied here.
        """
        is_due = self._is_forgetting_due(now)
        super().commit(now)
        if is_due:
            self._forget(now)

    def follow_step(self, seconds: float, now: float) -> None:
        """Go on after a step of the owner's wall clock, on all hosts.

        Raises:
            OSError: as of `Append`.
        """
        if seconds <= 0:
            self.rewind(now)
            return
        with self._changing(self._append_change(now, step=seconds)):
            super().follow_step(seconds, now)

    def rewind(self, now: float) -> None:
        """Let nothing be later than now, on all hosts.

        Raises:
            OSError: as of `Append`.
        """
        with self._changing(self._append_change(now, step=0.0)):
            super().rewind(now)

    def _remove(self, doomed: Doomed, now: float) -> None:
        """Remove series on all hosts.

        Raises:
            OSError: as of `Append`.
            RegistryError: they can't be removed here.
        """
        with self._changing(self._append_change(now, removed=replica.dump_doomed(doomed))):
            super()._remove(doomed, now)
        self._note_told()

    def _append_change(self, at: float, **change: Any) -> Position:
        return self.append(orjson.dumps({"at": at, **change}), at)

    def _make_stuck_error(self, error: OSError) -> RegistryError:
        return RegistryError(f"{self._directory}: a record of shard {self._number}'s log can't be applied: {error}")

    # -- every replica --------------------------------------------------------------------------------------------

    def follow(self, payload: bytes, position: Position) -> None:
        """Apply a record that the log has counted, and note the position after it; no batch may be open.

        Raises:
            RegistryError: the record can't be applied.
        """
        record: dict[str, Any] = orjson.loads(payload)
        if "values" in record:
            try:
                self._follow_commit(record, payload, position)
            except OSError as error:
                raise self._make_stuck_error(error) from error
        elif record:
            with self._changing(position):
                self._follow_change(record)
        else:
            self.note(position)

    def _follow_change(self, record: Mapping[str, Any]) -> None:
        if "removed" in record:
            self._follow_removal(replica.load_doomed(record["removed"]), record["at"])
        elif "step" in record:
            self._follow_step(record["step"], record["at"])
        elif "whole" in record:
            self.install(orjson.dumps(record["whole"]))

    def _follow_commit(self, record: Mapping[str, Any], payload: bytes, position: Position) -> None:
        if record["families"]:
            self.families.take_over(record["families"])
        self.admission.take_over(record["places"])
        replica.take_keys(self._state, self.families, record["keys"])
        self._is_admission_settled = self._is_admission_settled and not record["keys"]
        self._make_journal_room(payload, record["at"])
        self._files.journal.commit(self._with_position(payload, position), fsync=self._has_fsync)
        restoring.load(self._state, record)
        self._state.apply(record)
        if record["forgets"]:
            self._forget(record["at"])
        self._files.journal.clear()

    def _is_forgetting_due(self, now: float) -> bool:
        return now - self._forgot_at >= FORGET_SECONDS

    def _forget(self, now: float) -> None:
        self._forgot_at = now
        self._state.forget(now)

    def _follow_step(self, seconds: float, now: float) -> None:
        if seconds <= 0:
            super().rewind(now)
        else:
            super().follow_step(seconds, now)

    def _follow_removal(self, doomed: Doomed, now: float) -> None:
        super()._remove(doomed, now)
        for family in [each for each in self.families.frozen() if each.metric_name in doomed]:
            self.admission.release(family)
        self.fold.reroute()
        self._is_admission_settled = False

    def settle_admission(self) -> None:
        """Write what the shard has to the host's counts, if records have changed it.

        Raises:
            OSError: the disk has no room.
        """
        if not self._is_admission_settled:
            self.admission.settle(self.fold.groups)
            self._is_admission_settled = True

    # -- the position ---------------------------------------------------------------------------------------------

    def note(self, position: Position) -> None:
        """Note the position after a record that changes nothing here; where the journal is full, the former stays."""
        payload = self._with_position(orjson.dumps(self._state.empty_record()), position)
        if self._files.journal.has_room(payload):
            with suppress(OSError):
                self._files.journal.commit(payload, fsync=False)
                self._files.journal.clear()

    def _with_position(self, payload: bytes, position: Position | None) -> bytes:
        used = {name: file.used for name, file in self._files.values.items()}
        return resuming.with_position(payload, position, used)

    @contextmanager
    def _changing(self, position: Position) -> Iterator[None]:
        """Have no position in the files while they are changed otherwise than by a record's values.

        Raises:
            RegistryError: the change can't be made.
        """
        try:
            payload = self._with_position(orjson.dumps(self._state.empty_record()), None)
            self._files.journal.commit(payload, fsync=self._has_fsync)
            self._files.journal.clear()
            yield
        except OSError as error:
            raise self._make_stuck_error(error) from error
        self.note(position)

    def _persist_times(self) -> None:
        """Begin a journal with times as they are now: a later resumption would have the former ones.

        Raises:
            OSError: the disk has no room.
        """
        self._state.begin_journal()

    # -- the whole state ------------------------------------------------------------------------------------------

    def install(self, snapshot: bytes) -> None:
        """Replace the shard's state by a snapshot's, or by nothing.

        Raises:
            RegistryError: the files can't be written.
        """
        told: dict[str, Any] = orjson.loads(snapshot) if snapshot else {}
        self._files.close()
        try:
            replica.wipe(self._directory, self._number)
            if told:
                self.families.take_over(told["families"])
                self.admission.take_over(told["places"])
                replica.lay_down(self._directory, self._number, told)
            self._begin()
            self._bring_up()
        except OSError as error:
            raise self._make_stuck_error(error) from error

    def digest(self) -> str:
        """Return a digest of the shard's state, which all hosts have after the same record."""
        return replica.digest_of(self._state)
