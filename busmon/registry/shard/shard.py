"""One shard: its lock, its files, and the commit that makes a batch durable in all of them at once.

Opening takes the lock and redoes what a dead owner had marked, before anything is folded. A commit journals absolute
new values, ledger entries and gauge shares, marks them, and only then applies them; what is marked happened, what
isn't did not. A commit that fails (a full disk) changes nothing and may be tried again or rolled back. One thread of
one process owns a shard; readers follow it without any lock.
"""

import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import repeat
from math import isfinite
from pathlib import Path
from typing import Any, Self

import orjson

from busmon.catalogue.family import HISTOGRAM, SUMMARY, Family
from busmon.errors import RegistryError
from busmon.registry import rejected
from busmon.registry.admission.admission import Admission
from busmon.registry.admission.budgets import OTHER, UNBOUNDED, Budgets
from busmon.registry.admission.families import Families
from busmon.registry.fold.columns import COLUMNS, SKETCH, Column, Group, column_of, file_name
from busmon.registry.fold.fold import Fold
from busmon.registry.fold.ledger import FORGET_AFTER_SECONDS, Ledger
from busmon.registry.fold.shares import NOBODY, Share
from busmon.registry.numbers import LARGEST, go_float
from busmon.registry.shard import compaction, disk
from busmon.registry.shard.compaction import Doomed, Draft
from busmon.registry.shard.damage import damaged
from busmon.registry.shard.journal import Journal
from busmon.registry.shard.lock import locked
from busmon.registry.shard.values import FIRST_ENTRY, Extent, ValueFile, used_bytes

_STEP_ENTRIES = 10_000

NO_DRAFTS: Mapping[str, Draft] = {}


class Shard:
    """The owner's view of one shard.

    Attributes:
        families: the fleet's.
        admission: which series may be made.
        fold: the open batch.
        ledger: which envelopes are counted.
        replayed: whether a dead owner had marked a commit that it didn't finish.
    """

    def __init__(self, registry_dir: Path, number: int, families: Families, lock: int, *, fsync: bool) -> None:
        self._directory = registry_dir
        self._lock = lock
        self._number = number
        self.families = families
        self._fsync = fsync
        self._is_detached = False
        self.admission = Admission(registry_dir, number, families, UNBOUNDED)
        self._checks_users = True
        self._begin()
        self.replayed = False
        self._progress: Callable[[], object] = lambda: None

    def _begin(self) -> None:
        self._columns: dict[str, Column] = {name: Column(name) for name in COLUMNS}
        self._files: dict[str, ValueFile] = {}
        self._extents: dict[str, Extent] = {}
        self._is_noted = True
        self.fold = Fold(self.families, self._columns, self.admission, self._number)
        self.ledger = Ledger(checks_users=self._checks_users)

    @classmethod
    def open(  # noqa: PLR0913 - most openers say the first three
        cls,
        registry_dir: Path,
        number: int,
        families: Families,
        *,
        fsync: bool = False,
        wait_seconds: float = 0.0,
        progress: Callable[[], object] = lambda: None,
    ) -> Self:
        """Take the shard's lock and bring its files to the last marked commit. It has no budgets until `limit`.

        Args:
            registry_dir: where the shard's files are.
            number: the shard.
            families: the fleet's families.
            fsync: flush the journal to disk with each commit, so that a power cut loses nothing that was acked.
            wait_seconds: how long to wait for an owner that is about to end.
            progress: called for each step of what may take long: a record that is redone, a part of a file.

        Raises:
            ShardOwnedError: another process holds the lock.
            RegistryError: a file isn't what it should be, or can't be read or written.
        """
        try:
            lock = locked(registry_dir, number, wait_seconds)
        except OSError as error:
            raise RegistryError(f"shard {number} in {registry_dir} can't be opened: {error}") from error
        try:
            shard = cls(registry_dir, number, families, lock, fsync=fsync)
            shard._progress = progress
            shard._bring_up()
        except OSError as error:
            os.close(lock)
            raise RegistryError(f"shard {number} in {registry_dir} can't be opened: {error}") from error
        except BaseException:
            os.close(lock)
            raise
        return shard

    def limit(self, budgets: Budgets) -> None:
        """Go by these budgets from here on; what is in stays in."""
        self.fold.limit(budgets)

    def check_users(self, *, are_checked: bool) -> None:
        """Let a source belong to the user that opened it, or to everybody."""
        self._checks_users = self.ledger.checks_users = are_checked

    def expose_at_zero(self, families: Iterable[Family]) -> None:
        """Make the bounded series of these families, in the next commit."""
        for family in families:
            self.fold.expose_at_zero(family)

    def commit(self, now: float) -> None:
        """Make the open batch durable.

        Raises:
            OSError: the disk is full or fails; the batch is still open.
            RegistryError: the batch is durable, and can't be applied here; the next owner does it.
        """
        self._count_evicted()
        record, payload = self._prepare(now)
        self._journal.commit(payload, fsync=self._fsync)
        try:
            self._apply(record)
            self._settle()
        except Exception as error:
            raise RegistryError(f"{self._journal_path}: a marked commit can't be applied: {error!r}") from error
        with suppress(OSError):  # the batch is counted: what isn't said to be applied is only applied again
            self._journal.clear()

    def rehearse(self, now: float) -> None:
        """Do all of a commit that takes room on the disk, and mark nothing; the caller rolls back.

        Raises:
            OSError: there is no room for the open batch.
        """
        _, payload = self._prepare(now)
        self._journal.append(payload)

    def _count_evicted(self) -> None:
        for agent, amount in self.ledger.evicted.items():
            self.fold.count("busmon_sources_evicted_total", (agent or OTHER,), amount)
        self.ledger.evicted.clear()

    def rollback(self) -> None:
        """Forget the open batch: its deliveries come again."""
        self.fold.rollback()
        self.ledger.rollback()

    def expire(self, before: float) -> int:
        """Drop, in the next commit, the gauge shares of sources silent since `before`; how many sources.

        A source that was evicted from the ledger isn't silent: it is judged by its latest gauge.
        """
        silent = {
            source
            for column in self._columns.values()
            for source in column.shares.sources()
            if source != NOBODY and self.ledger.heard_at(source) < before
        }
        silent = {source for source in silent if self.ledger.knows(source) or self._last_said_at(source) < before}
        self.fold.leave(silent)
        return len(silent)

    def _last_said_at(self, source: str) -> float:
        return max(column.shares.latest_at(source) for column in self._columns.values())

    def follow_step(self, seconds: float, now: float) -> None:
        """Go on after the wall clock was set by so many seconds, forwards or back.

        After a step forwards everything is as old as before, so that nothing counts as silent which isn't. After one
        back nothing is later than now, or it would outlast whatever comes until then.
        """
        if seconds <= 0:
            self.rewind(now)
        else:
            self.ledger.move(seconds, now)
            self.fold.streams.move(seconds, now)
            self._move_times(seconds, now)
            self._persist_times()

    def rewind(self, now: float) -> None:
        """Let nothing that the shard has be later than now: the clock was set back, perhaps before it was opened."""
        changed = [self.ledger.move(0.0, now), self.fold.rewind(now), self._rewind_files(now)]
        self.admission.rewind(now)
        if any(changed):
            self._persist_times()

    def _rewind_files(self, now: float) -> bool:
        is_changed = False
        for name, file in self._files.items():
            column, doubles = self._columns[name], file.doubles
            for slot in column.slots:
                if doubles[slot + 1] > now:
                    is_changed = True
                    doubles[slot + 1] = 0.0 if column.restarts else now
                    if column.restarts:  # a step that hasn't begun
                        doubles[slot] = 0.0
        for group in self.fold.own_stamps():
            if (stamped := self._files.get(group.column.name)) is not None:
                for slot in self._slots_of(group):
                    stamped.doubles[slot] = min(stamped.doubles[slot], now)
        return is_changed

    def _slots_of(self, group: Group) -> list[int]:
        """Return the first slot of each of a family's series that is in the file."""
        slots = group.column.slots
        return [slots[cell] for cell in group.cells.values() if cell < len(slots)]

    def _move_times(self, seconds: float, now: float) -> None:
        """Move the times of updates; a gauge's is its event time, which its publisher's clock may have said."""
        for name, file in self._files.items():
            column, doubles = self._columns[name], file.doubles
            for slot in () if column.is_timed else column.slots:
                if doubles[slot + 1]:
                    doubles[slot + 1] = min(doubles[slot + 1] + seconds, now)

    def _persist_times(self) -> None:
        """Begin a journal with times as they are now, for the next owner and for readers; on a full disk later."""
        with suppress(OSError):
            self._begin_journal()

    def write_for_readers(self) -> None:
        """Write the exemplars and the rejected samples that are new since the last time, if there are any.

        Raises:
            OSError: the disk is full or fails.
        """
        self.fold.exemplars.write(self._directory / f"exemplars_shard{self._number}.json")
        self.fold.rejected.write(rejected.path_of(self._directory, self._number))

    def remove(self, doomed: Doomed, now: float) -> None:
        """Take series out of the shard's files; one that comes again starts at 0. What is open is committed first.

        Raises:
            OSError: there is no room for the files' next generation; nothing is removed.
            RegistryError: the files can't be opened again; the next owner finishes it.
        """
        self.commit(now)
        self._journal.clear()
        drafts: dict[str, Draft] = {}
        try:
            for name, file in self._files.items():
                if draft := compaction.draft(file, doomed, fsync=self._fsync):
                    drafts[name] = draft
            if not drafts:
                return
            snapshot, extents = self._snapshot(drafts), self._present(drafts)
            Journal.create(self._journal_path, snapshot, extents, fsync=self._fsync).close()
        except OSError:
            for draft in drafts.values():
                draft.discard()
            raise
        self._reopen()

    def detach(self) -> None:
        """Let go of lock and files in a forked child: a commit changes copies in memory, and nothing of the fleet's.

        Raises:
            OSError: there is no memory for the copies.
        """
        os.close(self._lock)  # first, so that the lock ends with the parent
        self._is_detached = True
        self.families.detach()
        self.admission.detach()
        self._journal.detach()
        for file in self._files.values():
            file.detach()

    def close(self) -> None:
        """Close the files and give the lock back; an open batch is lost."""
        with suppress(OSError):  # nobody counts on it
            self.write_for_readers()
        self._close_files()
        self.admission.close()
        os.close(self._lock)

    def _close_files(self) -> None:
        self._journal.close()
        for file in self._files.values():
            file.close()

    # -- opening --------------------------------------------------------------------------------------------------

    def _bring_up(self) -> None:
        """Take over what the files say, and finish what a dead owner had marked."""
        self.fold.rejected.load(rejected.path_of(self._directory, self._number))
        try:
            self._journal = Journal.open(self._journal_path, writable=True)
        except FileNotFoundError:
            self._open_files()
            self._journal = Journal.create(self._journal_path, self._snapshot(), self._present(), fsync=self._fsync)
        else:
            self._redo()
        self.admission.settle(self.fold.groups)

    def _reopen(self) -> None:
        """Go on with the files as their journal has them by now."""
        with suppress(OSError):
            self.write_for_readers()
        self._close_files()
        evicted = self.ledger.evicted
        try:
            self._begin()
            self._bring_up()
            self.ledger.evicted.update(evicted)
            if self._fsync:
                disk.sync_names(self._directory)
        except OSError as error:
            raise RegistryError(f"shard {self._number} in {self._directory} can't be opened again: {error}") from error

    def _open_files(self) -> None:
        for column in COLUMNS:
            if self._path(column).exists():
                self._file(column)

    def _file(self, column: str) -> ValueFile:
        file = self._files.get(column)
        if file is None:
            file = self._files[column] = ValueFile(self._path(column), in_memory=self._is_detached)
            self._restore(column, file)
        return file

    def _restore(self, column: str, file: ValueFile) -> None:
        """Find every series of a file again: the first cell of each, by its family and label values.

        Raises:
            RegistryError: a key isn't as busmon writes it.
        """
        families = {family.metric_name: family for family in self.families.frozen() if column_of(family) == column}
        cells, expected = self._columns[column], self._extents.get(column, Extent())
        cells.size += file.used - FIRST_ENTRY  # a new file has none of the entries that are to be written
        at_extent = 0
        try:
            for key, slot in file.entries():
                cells.slots.append(slot)
                if len(cells.slots) % _STEP_ENTRIES == 0:
                    self._progress()
                if (slot + 2) * 8 == expected.used:
                    at_extent = file.checksum
                if column == SKETCH:
                    self.fold.sketches.restore(key, len(cells.slots) - 1, self.fold.groups)
                else:
                    self._restore_series(families, key, len(cells.slots) - 1)
        except RegistryError as error:
            raise damaged(file.path, str(error)) from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise damaged(file.path, f"entry {len(cells.slots)} has no key as busmon writes it") from error
        if expected.used > FIRST_ENTRY and at_extent != expected.checksum:
            raise damaged(file.path, f"its keys aren't those that {self._journal_path.name} counts on")

    def _restore_series(self, families: Mapping[str, Family], key: bytes, cell: int) -> None:
        metric_name, sample_name, labels, _ = orjson.loads(key)
        family = families.get(metric_name)
        if family is not None and _opens_series(family, sample_name, labels):
            self.fold.restore(family, tuple(labels[name] for name in family.labelnames), cell, len(key))

    def _redo(self) -> None:
        """Take over the journal's snapshot and records one by one, as they may be many, and finish the last one."""
        records = map(orjson.loads, self._journal.records())
        snapshot = next(records)
        compaction.complete({column: self._path(column) for column in COLUMNS}, snapshot.get("generations", {}))
        if self._journal.has_extents:
            self._extents = dict(zip(COLUMNS, self._journal.extents(), strict=False))
        self._require_files()
        self._open_files()
        self._load(snapshot)
        final: dict[str, dict[int, tuple[float, float]]] = {}
        for record in records:
            self._progress()
            self._load(record)
            _lay_over(final, record)
        try:
            self._apply(_joined(final))
        except (KeyError, IndexError) as error:
            raise damaged(self._journal_path, "it changes values that the shard's value files don't have") from error
        self.replayed = self._journal.unapplied
        self._journal.clear()
        if not self._journal.has_extents:
            self._begin_journal()

    def _require_files(self) -> None:
        """Hold the value files to what the journal says of them.

        Raises:
            RegistryError: one is gone, or shorter.
        """
        for column, expected in self._extents.items():
            path = self._path(column)
            if expected.used and not path.exists():
                raise damaged(path, f"the file is gone, and {self._journal_path.name} counts on it")
            if expected.used and (found := used_bytes(path)) < expected.used:
                fault = f"{found} bytes are used, and {self._journal_path.name} counts on {expected.used}"
                raise damaged(path, fault)

    def _load(self, record: Mapping[str, Any]) -> None:
        self.ledger.load(record["ledger"])
        if "streams" in record:  # a journal of an earlier version has none
            self.fold.streams.load(record["streams"])
        for name, dumped in record["shares"].items():
            column = self._columns[name]
            for slot, source, share in dumped:
                column.shares.load(bisect_left(column.slots, slot), source, Share(*share) if share else None)
        self._settle()

    # -- committing -----------------------------------------------------------------------------------------------

    def _prepare(self, now: float) -> tuple[dict[str, Any], bytes]:
        """Make room for the open batch in all files; return its journal record, as it is and as it is written."""
        self.fold.seal(now)
        self.admission.pay(self.fold.groups)
        self._write_keys()
        record = self._record(now)
        payload = orjson.dumps(record, default=tuple)
        if not self._journal.has_room(payload) and not self._is_detached:
            self._checkpoint(now)
        return record, payload

    def _write_keys(self) -> None:
        """Give every new series its place in its file, at 0: not a change, since nothing counts it yet."""
        if grown := any(column.unwritten for column in self._columns.values()):
            self._is_noted = False
        if self._fsync and grown:
            self.families.flush()
        for column in self._columns.values():
            if column.unwritten:
                file = self._file(column.name)
                column.written(file.append(column.unwritten))
                if self._fsync:
                    file.sync()
                    disk.sync_names(self._directory)
        if not self._is_noted:
            self._journal.note(self._present())
            self._is_noted = True

    def _present(self, drafts: Mapping[str, Draft] = NO_DRAFTS) -> list[Extent]:
        """Return what each column's file has, or will have."""
        extents = {name: file.extent for name, file in self._files.items()}
        extents |= {name: draft.extent for name, draft in drafts.items()}
        return [extents.get(column, Extent()) for column in COLUMNS]

    def _record(self, now: float) -> dict[str, Any]:
        return {
            "at": now,
            "values": {name: values for name in self._files if (values := self._new_values(name, now))},
            "ledger": self.ledger.dump(self.ledger.open),
            "streams": self.fold.streams.dump(whole=False),
            "shares": {name: shares for name in self._files if (shares := self._shares(name, whole=False))},
        }

    def _new_values(self, name: str, now: float) -> tuple[list[int], list[float], list[float]] | None:
        """Slots, absolute values and, for gauges, timestamps of the cells that the batch changes."""
        column, doubles = self._columns[name], self._files[name].doubles
        slots = [column.slots[cell] for cell in column.increments]
        values = [doubles[slot] + added for slot, added in zip(slots, column.increments.values(), strict=True)]
        times = [column.times.get(cell, now) for cell in column.increments] if column.is_timed else []
        if column.restarts:
            laps = zip(slots, values, column.increments.values(), times, strict=True)
            values = [value if doubles[slot + 1] == at else added for slot, value, added, at in laps]
        for cell, value, at in column.shares.merged():
            slots.append(column.slots[cell])
            values.append(value)
            times.append(at)
        return (slots, _representable(values), times) if slots else None

    def _shares(self, name: str, *, whole: bool) -> list[tuple[int, str, Share | None]]:
        column = self._columns[name]
        return [(column.slots[cell], source, share) for cell, source, share in column.shares.dump(whole=whole)]

    def _apply(self, record: Mapping[str, Any]) -> None:
        for name, (slots, values, times) in record["values"].items():
            doubles = self._files[name].doubles
            for slot, value, at in zip(slots, values, times or repeat(record["at"]), strict=False):
                doubles[slot] = value
                doubles[slot + 1] = at

    def _settle(self) -> None:
        self.ledger.commit()
        self.fold.streams.commit()
        self.fold.rejected.commit()
        for column in self._columns.values():
            column.shares.commit()
            column.settle()

    def _checkpoint(self, now: float) -> None:
        """Begin a new journal with all that the old one says; the value files hold the rest."""
        self.ledger.forget(now - FORGET_AFTER_SECONDS)
        self.fold.streams.forget(now - FORGET_AFTER_SECONDS)
        if self._fsync:
            for file in self._files.values():
                file.sync()
        self._begin_journal()

    def _begin_journal(self) -> None:
        journal = Journal.create(self._journal_path, self._snapshot(), self._present(), fsync=self._fsync)
        self._journal.close()
        self._journal = journal
        if self._fsync:
            disk.sync_names(self._directory)

    def _snapshot(self, drafts: Mapping[str, Draft] = NO_DRAFTS) -> bytes:
        """All that isn't in the value files, with their slots and generations as they will be."""
        shares = {name: self._shares(name, whole=True) for name in self._files}
        generations = {name: file.generation for name, file in self._files.items()}
        for name, draft in drafts.items():
            generations[name], moved = draft.extent.generation, draft.moved
            shares[name] = [(moved[slot], source, share) for slot, source, share in shares[name] if slot in moved]
        snapshot = {
            "ledger": self.ledger.dump(),
            "streams": self.fold.streams.dump(whole=True),
            "shares": shares,
            "generations": generations,
        }
        return orjson.dumps(snapshot, default=tuple)

    def updated_at(self, group: Group, labelvalues: tuple[str, ...]) -> float:
        """When a series was last changed by a commit, or a gauge's event time, in seconds since the epoch."""
        first, doubles = group.cells[labelvalues], self._files[group.column.name].doubles
        return max(doubles[slot + 1] for slot in group.column.slots[first : first + group.width])

    @property
    def _journal_path(self) -> Path:
        return self._directory / f"shard{self._number}.journal"

    def _path(self, column: str) -> Path:
        return self._directory / file_name(column, self._number)


def _lay_over(final: dict[str, dict[int, tuple[float, float]]], record: Mapping[str, Any]) -> None:
    """Lay a record's values over those of earlier ones: a reader of the files never sees one go back and come again."""
    for name, (slots, values, times) in record["values"].items():
        pairs = zip(values, times or repeat(record["at"]), strict=False)
        final.setdefault(name, {}).update(zip(slots, pairs, strict=True))


def _joined(final: Mapping[str, Mapping[int, tuple[float, float]]]) -> dict[str, Any]:
    """Make one record of them."""
    return {"values": {name: (list(cells), *zip(*cells.values(), strict=True)) for name, cells in final.items()}}


def _representable(values: list[float]) -> list[float]:
    """Sums beyond the largest float stay there: the journal's JSON has no infinity."""
    return values if isfinite(sum(values)) else [max(-LARGEST, min(value, LARGEST)) for value in values]


def _opens_series(family: Family, sample_name: str, labels: Mapping[str, str]) -> bool:
    if family.type == HISTOGRAM:
        first = go_float(family.buckets[0]) if family.buckets else "+Inf"
        return labels.get("le") == first
    return family.type != SUMMARY or sample_name.endswith("_count")
