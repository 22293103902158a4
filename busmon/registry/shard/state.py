"""The state of one shard: the open batch, the ledger and the files, and the journal's form of all three.

A *record* holds what one batch changes, as absolute values. A *snapshot* holds all that isn't in the value files.
Pure memory, but for `begin_journal`. One thread of the shard's owner.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import repeat
from math import isfinite
from typing import Any

import orjson

from busmon.registry.fold.fold import Fold
from busmon.registry.ledger.ledger import FORGET_AFTER_SECONDS, Changes, Ledger
from busmon.registry.series.latest import Share
from busmon.registry.shard.shard_files import NO_DRAFTS, ShardFiles
from busmon.registry.storage.compaction import Draft
from busmon.wire.floats import LARGEST


@dataclass(frozen=True, slots=True)
class ShardState:
    """The state that a shard has between its opening and its closing.

    Attributes:
        files: the open files.
        fold: the open batch.
        ledger: the envelopes that are counted.
    """

    files: ShardFiles
    fold: Fold
    ledger: Ledger

    def record(self, now: float) -> dict[str, Any]:
        """Make the journal record of the open batch."""
        names, celery = self.files.values, self.fold.celery
        return {
            "at": now,
            "values": {name: values for name in names if (values := self._new_values(name, now))},
            "ledger": self.ledger.dump(self.ledger.open),
            "streams": self.fold.streams.dump(whole=False),
            **({"celery": celery.dump(whole=False)} if celery.has_changes else {}),
            "shares": {name: shares for name in names if (shares := self._shares(name, whole=False))},
        }

    def empty_record(self) -> dict[str, Any]:
        """Make a journal record that changes nothing, whatever the open batch has."""
        return {"at": 0.0, "values": {}, "ledger": self.ledger.dump(Changes({}, {})), "shares": {}}

    def snapshot(self, drafts: Mapping[str, Draft] = NO_DRAFTS) -> bytes:
        """Write all that isn't in the value files, with their slots and generations as they will be."""
        shares = {name: self._shares(name, whole=True) for name in self.files.values}
        generations = {name: file.generation for name, file in self.files.values.items()}
        for name, draft in drafts.items():
            generations[name], moved = draft.extent.generation, draft.moved
            shares[name] = [(moved[slot], source, share) for slot, source, share in shares[name] if slot in moved]
        snapshot = {
            "ledger": self.ledger.dump(),
            "streams": self.fold.streams.dump(whole=True),
            "celery": self.fold.celery.dump(whole=True),
            "shares": shares,
            "generations": generations,
        }
        return orjson.dumps(snapshot, default=tuple)

    def apply(self, record: Mapping[str, Any]) -> None:
        """Write a record's values to the value files."""
        for name, (slots, values, times) in record["values"].items():
            doubles = self.files.values[name].doubles
            for slot, value, at in zip(slots, values, times or repeat(record["at"]), strict=False):
                doubles[slot] = value
                doubles[slot + 1] = at

    def settle(self) -> None:
        """Begin the next batch: the open one is applied."""
        self.ledger.commit()
        self.fold.streams.commit()
        self.fold.celery.commit()
        self.fold.rejected.commit()
        for column in self.files.columns.values():
            column.shares.commit()
            column.settle()

    def checkpoint(self, now: float) -> None:
        """Begin a new journal with all that the old one says; the value files hold the rest.

        Raises:
            OSError: the disk has no room; the old journal stands.
        """
        self.forget(now)
        self.files.sync_values()
        self.begin_journal()

    def forget(self, now: float) -> None:
        """Forget the sources and streams that were silent for a day, in the next journal."""
        self.ledger.forget(now - FORGET_AFTER_SECONDS)
        self.fold.streams.forget(now - FORGET_AFTER_SECONDS)
        self.fold.celery.forget(now - FORGET_AFTER_SECONDS)

    def begin_journal(self) -> None:
        """Begin a new journal with a snapshot.

        Raises:
            OSError: the disk has no room; the old journal stands.
        """
        self.files.begin_journal(self.snapshot())

    def _new_values(self, name: str, now: float) -> tuple[list[int], list[float], list[float]] | None:
        """Return slots, absolute values and, for gauges, timestamps of the cells that the batch changes."""
        column, doubles = self.files.columns[name], self.files.values[name].doubles
        slots = [column.slots[cell] for cell in column.increments]
        values = [doubles[slot] + added for slot, added in zip(slots, column.increments.values(), strict=True)]
        times = [column.times.get(cell, now) for cell in column.increments] if column.is_timed else []
        if column.restarts:
            laps = zip(slots, values, column.increments.values(), times, strict=True)
            values = [value if doubles[slot + 1] == at else added for slot, value, added, at in laps]
        for cell, value, at in column.shares.merge():
            slots.append(column.slots[cell])
            values.append(value)
            times.append(at)
        return (slots, _representable(values), times) if slots else None

    def _shares(self, name: str, *, whole: bool) -> list[tuple[int, str, Share | None]]:
        column = self.files.columns[name]
        return [(column.slots[cell], source, share) for cell, source, share in column.shares.dump(whole=whole)]


def _representable(values: list[float]) -> list[float]:
    """Keep sums beyond the largest float at the largest float: the journal's JSON has no infinity."""
    return values if isfinite(sum(values)) else [max(-LARGEST, min(value, LARGEST)) for value in values]
