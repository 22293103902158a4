"""One shard: its lock, and the commit that makes a batch durable in all its files at once.

Opening takes the lock and redoes what a dead owner had marked, before anything is folded (`opening.py`). A commit
journals absolute new values, ledger entries and gauge shares, marks them, and only then applies them; what is marked
happened, what isn't did not. A commit that fails (a full disk) changes nothing and may be tried again or rolled back.
One thread of one process owns a shard; readers follow it without any lock.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import orjson

from busmon.catalogue.family import Family
from busmon.errors import RegistryError
from busmon.registry.admission.admission import Admission
from busmon.registry.admission.budgets import OTHER, UNBOUNDED, Budgets
from busmon.registry.admission.families import Families
from busmon.registry.celery.events import CELERY, Gone
from busmon.registry.fold.fold import Fold
from busmon.registry.ledger.ledger import Ledger
from busmon.registry.series.columns import SeriesGroup
from busmon.registry.series.shares import NOBODY
from busmon.registry.shard import clock_steps, replica
from busmon.registry.shard.opening import Opening
from busmon.registry.shard.shard_files import ShardFiles
from busmon.registry.shard.state import ShardState
from busmon.registry.storage import compaction, disk, rejected_samples
from busmon.registry.storage.compaction import Doomed, Draft
from busmon.registry.storage.lock import take_lock
from busmon.registry.storage.rejected_samples import RejectedSample
from busmon.wire.envelope import Point


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
        self._has_fsync = fsync
        self.admission = Admission(registry_dir, number, families, UNBOUNDED)
        self._checks_users = True
        self._begin()
        self.replayed = False
        self._progress: Callable[[], object] = lambda: None
        self._at_reading: Callable[[], object] = lambda: None

    def _begin(self) -> None:
        """Begin with empty memory and no file."""
        self._files = ShardFiles(self._directory, self._number, has_fsync=self._has_fsync)
        self.fold = Fold(self.families, self._files.columns, self.admission, self._number)
        self.ledger = Ledger(checks_users=self._checks_users)
        self._state = ShardState(self._files, self.fold, self.ledger)

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
        at_reading: Callable[[], object] = lambda: None,
    ) -> Self:
        """Take the shard's lock and bring its files to the last marked commit. It has no budgets until `limit`.

        Args:
            registry_dir: where the shard's files are.
            number: the shard.
            families: the fleet's families.
            fsync: flush the journal to disk with each commit, so that a power cut loses nothing that was acked.
            wait_seconds: how long to wait for an owner that is about to end.
            progress: called for each step of what may take long: a record that is redone, a part of a file.
            at_reading: called before the files of a replica are deleted, since they must be built again from a log.

        Raises:
            ShardOwnedError: another process holds the lock.
            RegistryError: a file isn't what it should be, or can't be read or written.
        """
        try:
            lock = take_lock(registry_dir, number, wait_seconds)
        except OSError as error:
            raise RegistryError(f"shard {number} in {registry_dir} can't be opened: {error}") from error
        try:
            shard = cls(registry_dir, number, families, lock, fsync=fsync)
            shard._progress, shard._at_reading = progress, at_reading
            shard._take_up()
        except OSError as error:
            os.close(lock)
            raise RegistryError(f"shard {number} in {registry_dir} can't be opened: {error}") from error
        except BaseException:
            os.close(lock)
            raise
        return shard

    def limit(self, budgets: Budgets) -> None:
        """Apply these budgets from here on; what is in stays in."""
        self.fold.limit(budgets)

    def check_users(self, *, are_checked: bool) -> None:
        """Let a source belong to the user that opened it, or to everybody."""
        self._checks_users = self.ledger.checks_users = are_checked

    def follow_dealing(self, dealt_at: float) -> None:
        """Doubt totals that began before sources were dealt to shards as they are now: another shard may know them."""
        self.fold.streams.raise_horizon(dealt_at)

    def take_confused_sources(self) -> set[str]:
        """Return the names that two live sources of totals have, and forget them."""
        return self.fold.streams.take_confused()

    def take_rejected(self) -> list[RejectedSample]:
        """Return the samples that were rejected since the last call."""
        return self.fold.rejected.fresh()

    def expose_at_zero(self, families: Iterable[Family]) -> None:
        """Make the bounded series of these families, in the next commit."""
        for family in families:
            self.fold.own.expose_at_zero(family)

    def commit(self, now: float) -> None:
        """Make the open batch durable.

        Raises:
            OSError: the disk is full or fails; the batch is still open.
            RegistryError: the batch is durable, and can't be applied here; the next owner does it.
        """
        self._count_evicted()
        record, payload = self._prepare(now)
        self._count(record, payload)
        try:
            self._state.apply(record)
            self._state.settle()
        except Exception as error:
            raise RegistryError(f"{self._files.journal_path}: a marked commit can't be applied: {error!r}") from error
        with suppress(OSError):  # the batch is counted: what isn't said to be applied is only applied again
            self._files.journal.clear()

    def rehearse(self, now: float) -> None:
        """Do all of a commit that takes room on the disk, and mark nothing; the caller rolls back.

        Raises:
            OSError: there is no room for the open batch.
        """
        _, payload = self._prepare(now)
        self._files.journal.append(payload)

    def _count_evicted(self) -> None:
        for agent, amount in self.ledger.evicted.items():
            self.fold.own.count("busmon_sources_evicted_total", (agent or OTHER,), amount)
        self.ledger.evicted.clear()

    def rollback(self) -> None:
        """Forget the open batch: its deliveries come again."""
        self._files.drop_plan()
        self.fold.rollback()
        self.ledger.rollback()

    def expire(self, before: float) -> int:
        """Drop, in the next commit, the gauge shares of sources silent since `before`; return how many sources.

        A source that was evicted from the ledger isn't silent: it is judged by its latest gauge.
        """
        silent = {
            source
            for column in self._files.columns.values()
            for source in column.shares.sources()
            if source != NOBODY and self.ledger.find_heard_at(source) < before
        }
        silent = {source for source in silent if self.ledger.knows(source) or self._last_said_at(source) < before}
        self.fold.leave(silent)
        return len(silent)

    def beat_celery(self, now: float, silent_since: float | None) -> bool:
        """Put what time shows of Celery's workers into the open batch; return whether that is anything.

        Args:
            now: seconds since the epoch.
            silent_since: workers without an event since then are lost; None while nobody can tell.
        """
        points, gone = self.fold.celery.beat(now, silent_since)
        return self._note_celery(points, gone, now)

    def abandon_celery(self, now: float) -> bool:
        """Take Celery's workers out, in the next commit: another host's fleet hears them."""
        return self._note_celery([], self.fold.celery.abandon(), now)

    @property
    def celery_queues(self) -> list[str]:
        """Return the queues that Celery's tasks were sent to, the last one at the end."""
        return self.fold.celery.tasks.queues

    def read_celery(self, points: Sequence[Point], now: float) -> None:
        """Put what the broker says of Celery's queues into the open batch."""
        self.fold.read(CELERY._replace(points=points), now)

    def _note_celery(self, points: Sequence[Point], gone: Sequence[Gone], now: float) -> bool:
        if points:
            self.read_celery(points, now)
        self.fold.withdraw(gone, CELERY)
        return bool(points or gone)

    def _last_said_at(self, source: str) -> float:
        return max(column.shares.latest_at(source) for column in self._files.columns.values())

    def follow_step(self, seconds: float, now: float) -> None:
        """Go on after the wall clock was set by so many seconds, forwards or back.

        After a step forwards everything is as old as before, so that nothing counts as silent which isn't. After one
        back nothing is later than now, or it would outlast whatever comes until then.
        """
        if seconds <= 0:
            self.rewind(now)
        else:
            clock_steps.move(self._state, seconds, now)
            self._persist_times()

    def rewind(self, now: float) -> None:
        """Let nothing that the shard has be later than now: the clock was set back, perhaps before it was opened."""
        is_changed = clock_steps.rewind(self._state, now)
        self.admission.rewind(now)
        if is_changed:
            self._persist_times()

    def _persist_times(self) -> None:
        """Begin a journal with times as they are now, for the next owner and for readers; on a full disk later."""
        with suppress(OSError):
            self._state.begin_journal()

    def write_for_readers(self) -> None:
        """Write the exemplars and the rejected samples that are new since the last time, if there are any.

        Raises:
            OSError: the disk is full or fails.
        """
        self.fold.exemplars.write(self._directory / f"exemplars_shard{self._number}.json")
        self.fold.rejected.write(rejected_samples.path_of(self._directory, self._number))

    def remove(self, doomed: Doomed, now: float) -> None:
        """Take series out of the shard's files; one that comes again starts at 0. What is open is committed first.

        Raises:
            OSError: there is no room for the files' next generation; nothing is removed.
            RegistryError: the files can't be opened again; the next owner finishes it.
        """
        self.commit(now)
        self._remove(doomed, now)

    def _remove(self, doomed: Doomed, now: float) -> None:
        self._files.journal.clear()
        drafts: dict[str, Draft] = {}
        try:
            for name, file in self._files.values.items():
                if draft := compaction.draft(file, doomed, fsync=self._has_fsync):
                    drafts[name] = draft
            if not drafts:
                return
            self._state.forget(now)  # frequent removals leave no journal to grow until its checkpoint
            self._files.create_journal(self._state.snapshot(drafts), drafts).close()
        except OSError:
            for draft in drafts.values():
                draft.discard()
            raise
        self._reopen()

    def dump(self) -> bytes:
        """Return the shard's whole state, for a snapshot in a log; no batch may be open."""
        return replica.dump(self._state, self.families, self.admission)

    def detach(self) -> None:
        """Close lock and files in a forked child: a commit changes copies in memory, and nothing of the fleet's.

        Raises:
            OSError: there is no memory for the copies.
        """
        os.close(self._lock)  # first, so that the lock ends with the parent
        self.families.detach()
        self.admission.detach()
        self._files.detach()

    def close(self) -> None:
        """Close the files and give the lock back; an open batch is lost."""
        with suppress(OSError):  # nobody counts on it
            self.write_for_readers()
        self._files.close()
        self.admission.close()
        os.close(self._lock)

    # -- opening --------------------------------------------------------------------------------------------------

    def _take_up(self) -> None:
        """Take over the files that the directory has, while the lock is held."""
        self._bring_up()

    def _bring_up(self) -> None:
        """Take over what the files say, and finish what a dead owner had marked."""
        self.fold.rejected.load(rejected_samples.path_of(self._directory, self._number))
        self.replayed = Opening(self._state, self.families, self._progress).run()
        self.admission.settle(self.fold.groups)

    def _reopen(self) -> None:
        """Go on with the files as their journal has them by now."""
        with suppress(OSError):
            self.write_for_readers()
        self._files.close()
        evicted = self.ledger.evicted
        try:
            self._begin()
            self._bring_up()
            self.ledger.evicted.update(evicted)
            if self._has_fsync:
                disk.sync_names(self._directory)
        except OSError as error:
            raise RegistryError(f"shard {self._number} in {self._directory} can't be opened again: {error}") from error

    # -- committing -----------------------------------------------------------------------------------------------

    def _prepare(self, now: float) -> tuple[dict[str, Any], bytes]:
        """Make room for the open batch in all files; return its journal record, as it is and as it is written."""
        self.fold.seal(now)
        self.admission.pay(self.fold.groups)
        if self._has_fsync and any(column.unwritten for column in self._files.columns.values()):
            self.families.flush()
        record = self._record(now)
        payload = orjson.dumps(record, default=tuple)
        self._make_journal_room(payload, now)
        return record, payload

    def _record(self, now: float) -> dict[str, Any]:
        """Make the journal record of the open batch, whose keys have their places."""
        self._files.write_keys()
        return self._state.record(now)

    def _make_journal_room(self, payload: bytes, now: float) -> None:
        """Begin a new journal if the present one has no room for a record."""
        if not self._files.journal.has_room(payload) and not self._files.is_detached:
            self._state.checkpoint(now)

    def _count(self, _record: Mapping[str, Any], payload: bytes) -> None:
        """Have the open batch counted: its record is marked in the journal."""
        self._files.journal.commit(payload, fsync=self._has_fsync)

    def find_updated_at(self, group: SeriesGroup, labelvalues: tuple[str, ...]) -> float:
        """Return when a commit last changed a series, or a gauge's event time, in seconds since the epoch."""
        return self._files.find_updated_at(group, labelvalues)
