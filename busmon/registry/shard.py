"""One shard: its lock, its files, and the commit that makes a batch durable in all of them at once.

Opening takes the lock and redoes what a dead owner had marked, before anything is folded. A commit journals absolute
new values, ledger entries and gauge shares, marks them, and only then applies them; what is marked happened, what
isn't did not. A commit that fails (a full disk) changes nothing and may be tried again or rolled back. One thread of
one process owns a shard; readers follow it without any lock.
"""

import fcntl
import os
import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import repeat
from math import isfinite
from pathlib import Path
from typing import Any, Self

import orjson

from busmon.catalogue.family import HISTOGRAM, SUMMARY, Family
from busmon.errors import RegistryError, ShardOwnedError
from busmon.registry import disk
from busmon.registry.columns import COLUMNS, Column, column_of
from busmon.registry.families import Families
from busmon.registry.fold import Fold
from busmon.registry.journal import Journal
from busmon.registry.ledger import FORGET_AFTER_SECONDS, Ledger
from busmon.registry.numbers import LARGEST, go_float
from busmon.registry.shares import Share
from busmon.registry.values import ValueFile

_LOCK_POLL_SECONDS = 0.05


class Shard:
    """The owner's view of one shard.

    Attributes:
        fold: the open batch.
        ledger: which envelopes are counted.
        replayed: whether a dead owner had marked a commit that it didn't finish.
    """

    def __init__(self, registry_dir: Path, number: int, families: Families, lock: int, *, fsync: bool) -> None:
        self._directory = registry_dir
        self._lock = lock
        self._number = number
        self._families = families
        self._fsync = fsync
        self._columns: dict[str, Column] = {name: Column(name) for name in COLUMNS}
        self._files: dict[str, ValueFile] = {}
        self.fold = Fold(families, self._columns)
        self.ledger = Ledger()
        self.replayed = False

    @classmethod
    def open(
        cls, registry_dir: Path, number: int, families: Families, *, fsync: bool = False, wait_seconds: float = 0.0
    ) -> Self:
        """Take the shard's lock and bring its files to the last marked commit.

        Args:
            registry_dir: where the shard's files are.
            number: the shard.
            families: the fleet's families.
            fsync: flush the journal to disk with each commit, so that a power cut loses nothing that was acked.
            wait_seconds: how long to wait for an owner that is about to end.

        Raises:
            ShardOwnedError: another process holds the lock.
            RegistryError: a file isn't what it should be.
        """
        lock = _locked(registry_dir / f"shard{number}.lock", number, wait_seconds)
        shard = cls(registry_dir, number, families, lock, fsync=fsync)
        try:
            shard._open_files()
            shard._open_journal()
        except BaseException:
            os.close(lock)
            raise
        return shard

    def expose_at_zero(self, families: Iterable[Family]) -> None:
        """Make the bounded series of these families, in the next commit."""
        for family in families:
            self.fold.expose_at_zero(family)

    def commit(self, now: float) -> None:
        """Make the open batch durable.

        Raises:
            OSError: the disk is full or fails; the batch is still open.
        """
        self.fold.seal()
        self._write_keys()
        record = self._record(now)
        payload = orjson.dumps(record, default=tuple)
        if not self._journal.has_room(payload):
            self._checkpoint(now)
        self._journal.commit(payload, fsync=self._fsync)
        self._apply(record)
        self._settle()
        with suppress(OSError):  # the batch is counted: what isn't said to be applied is only applied again
            self._journal.clear()

    def rollback(self) -> None:
        """Forget the open batch: its deliveries come again."""
        self.fold.rollback()
        self.ledger.rollback()

    def expire(self, before: float) -> int:
        """Drop, in the next commit, the gauge shares of sources silent since `before`; how many sources."""
        silent = {
            source
            for column in self._columns.values()
            for source in column.shares.sources()
            if source and self.ledger.heard_at(source) < before
        }
        for column in self._columns.values():
            column.shares.drop(silent)
        return len(silent)

    def detach(self) -> None:
        """Let go of the lock in a forked child, so that it ends with its parent."""
        os.close(self._lock)

    def close(self) -> None:
        """Close the files and give the lock back; an open batch is lost."""
        self._journal.close()
        for file in self._files.values():
            file.close()
        os.close(self._lock)

    # -- opening --------------------------------------------------------------------------------------------------

    def _open_files(self) -> None:
        for column in COLUMNS:
            if self._path(column).exists():
                self._file(column)

    def _file(self, column: str) -> ValueFile:
        file = self._files.get(column)
        if file is None:
            file = self._files[column] = ValueFile(self._path(column))
            self._restore(column, file)
        return file

    def _restore(self, column: str, file: ValueFile) -> None:
        """Find every series of a file again: the first cell of each, by its family and label values."""
        families = {family.metric_name: family for family in self._families.frozen() if column_of(family) == column}
        for key, slot in file.entries():
            cell = len(self._columns[column].slots)
            self._columns[column].slots.append(slot)
            metric_name, sample_name, labels, _ = orjson.loads(key)
            family = families.get(metric_name)
            if family is not None and _opens_series(family, sample_name, labels):
                self.fold.restore(family, tuple(labels[name] for name in family.labelnames), cell)

    def _open_journal(self) -> None:
        path = self._directory / f"shard{self._number}.journal"
        try:
            self._journal = Journal.open(path, writable=True)
        except FileNotFoundError:
            self._journal = Journal.create(path, self._snapshot(), fsync=self._fsync)
            return
        snapshot, *records = map(orjson.loads, self._journal.records())
        for record in (snapshot, *records):
            self._load(record)
        try:
            self._apply(_final(records))
        except (KeyError, IndexError) as error:
            raise RegistryError(f"{path}: it changes values that the shard's value files don't have") from error
        self.replayed = self._journal.unapplied
        self._journal.clear()

    def _load(self, record: Mapping[str, Any]) -> None:
        self.ledger.load(record["ledger"])
        for name, dumped in record["shares"].items():
            column = self._columns[name]
            for slot, source, share in dumped:
                column.shares.load(bisect_left(column.slots, slot), source, Share(*share) if share else None)
        self._settle()

    # -- committing -----------------------------------------------------------------------------------------------

    def _write_keys(self) -> None:
        """Give every new series its place in its file, at 0: not a change, since nothing counts it yet."""
        for column in self._columns.values():
            if column.unwritten:
                file = self._file(column.name)
                column.slots.extend(file.append(column.unwritten))
                column.unwritten.clear()
                if self._fsync:
                    file.sync()
                    disk.sync_names(self._directory)

    def _record(self, now: float) -> dict[str, Any]:
        return {
            "at": now,
            "values": {name: values for name in self._files if (values := self._new_values(name, now))},
            "ledger": self.ledger.dump(self.ledger.open),
            "shares": {name: shares for name in self._files if (shares := self._shares(name, whole=False))},
        }

    def _new_values(self, name: str, now: float) -> tuple[list[int], list[float], list[float]] | None:
        """Slots, absolute values and, for gauges, timestamps of the cells that the batch changes."""
        column, doubles = self._columns[name], self._files[name].doubles
        slots = [column.slots[cell] for cell in column.increments]
        values = [doubles[slot] + added for slot, added in zip(slots, column.increments.values(), strict=True)]
        times = [column.times.get(cell, now) for cell in column.increments] if column.is_gauge else []
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
        for column in self._columns.values():
            column.shares.commit()
            column.rollback()

    def _checkpoint(self, now: float) -> None:
        """Begin a new journal with all that the old one says; the value files hold the rest."""
        self.ledger.forget(now - FORGET_AFTER_SECONDS)
        if self._fsync:
            for file in self._files.values():
                file.sync()
        journal = Journal.create(self._directory / f"shard{self._number}.journal", self._snapshot(), fsync=self._fsync)
        self._journal.close()
        self._journal = journal
        if self._fsync:
            disk.sync_names(self._directory)

    def _snapshot(self) -> bytes:
        shares = {name: self._shares(name, whole=True) for name in self._files}
        return orjson.dumps({"ledger": self.ledger.dump(), "shares": shares}, default=tuple)

    def _path(self, column: str) -> Path:
        return self._directory / f"{column}_shard{self._number}.db"


def _final(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """All records as one: a reader beside a replay never sees a value go back and come again."""
    final: dict[str, dict[int, tuple[float, float]]] = {}
    for record in records:
        for name, (slots, values, times) in record["values"].items():
            pairs = zip(values, times or repeat(record["at"]), strict=False)
            final.setdefault(name, {}).update(zip(slots, pairs, strict=True))
    return {"values": {name: (list(cells), *zip(*cells.values(), strict=True)) for name, cells in final.items()}}


def _representable(values: list[float]) -> list[float]:
    """Sums beyond the largest float stay there: the journal's JSON has no infinity."""
    return values if isfinite(sum(values)) else [max(-LARGEST, min(value, LARGEST)) for value in values]


def _opens_series(family: Family, sample_name: str, labels: Mapping[str, str]) -> bool:
    if family.type == HISTOGRAM:
        first = go_float(family.buckets[0]) if family.buckets else "+Inf"
        return labels.get("le") == first
    return family.type != SUMMARY or sample_name.endswith("_count")


def _locked(path: Path, number: int, wait_seconds: float) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(_LOCK_POLL_SECONDS)
                continue
            owner = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise ShardOwnedError(f"shard {number} in {path.parent} is held by process {owner}") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return descriptor
