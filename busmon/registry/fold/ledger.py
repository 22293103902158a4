"""Which envelopes a shard has counted: asked for every one of them, bounded in memory, changed only by a commit.

An id `<source>:<sequence>` is known by its source's highest sequence and the gaps below it; any other id by its
digest, with its source's, in a ring. What an open batch admits is kept apart until `commit`, and `rollback` forgets
it. Pure: the shard persists it.
"""

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from typing import Any, NamedTuple

from busmon.bare import bare

RING_SIZE = 65_536
MAX_GAPS = 64
MAX_SOURCES = 100_000
FORGET_AFTER_SECONDS = 24 * 3600.0

_SEQUENCE = re.compile(r"[1-9][0-9]{0,17}")


class Verdict(Enum):
    """What the ledger says of an envelope."""

    NEW = "new"
    DUPLICATE = "duplicate"
    UNIDENTIFIED = "unidentified"
    """It has no id: a redelivery of it can't be told."""
    UNVERIFIABLE = "unverifiable"
    """Its id is older than what the ledger remembers: it may have been counted."""


class Gap(NamedTuple):
    """Sequences not seen, both ends included."""

    first: int
    last: int


class Seen(NamedTuple):
    """What is known of one source.

    Attributes:
        high: the highest sequence counted, 0 when none was.
        floor: sequences up to it are no longer told apart.
        gaps: what is missing between `floor` and `high`, ascending.
        heard_at: when its last envelope was folded, in seconds since the epoch.
    """

    high: int = 0
    floor: int = 0
    gaps: tuple[Gap, ...] = ()
    heard_at: float = 0.0


@dataclass(slots=True)
class Changes:
    """What one batch adds: the sources it heard, and the digests of other ids with the times of their arrival."""

    sources: dict[str, Seen]
    digests: dict[int, float]


class Ledger:
    """One shard's memory of ids and of when each source was last heard.

    Both memories are ordered dictionaries, the oldest entry first. A plain one passes over all that it ever deleted
    before it finds its first entry, so that evicting one by one costs the square of what is evicted.
    """

    def __init__(self) -> None:
        self.sources: OrderedDict[str, Seen] = OrderedDict()
        self.ring: OrderedDict[int, float] = OrderedDict()
        self.open = Changes({}, {})

    def admit_all(self, sources: Iterable[str], message_ids: Iterable[str | None], now: float) -> list[Verdict]:
        """Judge envelopes in their order and, but for duplicates, take note of them in the open batch.

        Most are the next of their source.
        """
        opened, known, new = self.open.sources, self.sources, Verdict.NEW
        verdicts = []
        for source, message_id in zip(sources, message_ids, strict=True):
            if seen := opened.get(source) or known.get(source):
                high, floor, gaps, _ = seen
                if message_id == f"{source}:{high + 1}":
                    opened[source] = bare(Seen, (high + 1, floor, gaps, now))
                    verdicts.append(new)
                    continue
            verdicts.append(self._judge(source, message_id, now))
        return verdicts

    def admit(self, source: str, message_id: str | None, now: float) -> Verdict:
        """Judge one envelope."""
        return self.admit_all((source,), (message_id,), now)[0]

    def _judge(self, source: str, message_id: str | None, now: float) -> Verdict:
        seen = self.open.sources.get(source) or self.sources.get(source)
        if not message_id:  # some clients send an empty one where they have none
            self.open.sources[source] = (seen or Seen())._replace(heard_at=now)
            return Verdict.UNIDENTIFIED
        sequence = _sequence(source, message_id)
        if sequence is None:
            return self._admit_digest(source, seen or Seen(), message_id, now)
        verdict, changed = _place(seen, sequence)
        if verdict is not Verdict.DUPLICATE:
            self.open.sources[source] = changed._replace(heard_at=now)
        return verdict

    def hear(self, source: str, now: float) -> None:
        """Take note that a source lives, by whatever it sent."""
        seen = self.open.sources.get(source) or self.sources.get(source) or Seen()
        self.open.sources[source] = seen._replace(heard_at=now)

    def heard_at(self, source: str) -> float:
        """When the source was last heard, in the open batch or before; 0 for one that isn't known."""
        seen = self.open.sources.get(source) or self.sources.get(source)
        return seen.heard_at if seen else 0.0

    def ring_span(self, now: float) -> float:
        """How old the oldest id in the ring is, in seconds: a resend of another id within that time is known."""
        return max(0.0, now - next(iter(self.ring.values()), now))

    def commit(self) -> None:
        """What the open batch admitted is counted for good."""
        for source, seen in self.open.sources.items():
            self.sources[source] = seen
            self.sources.move_to_end(source)
        self.ring.update(self.open.digests)
        self.rollback()
        while len(self.ring) > RING_SIZE:
            self.ring.popitem(last=False)
        while len(self.sources) > MAX_SOURCES:
            self.sources.popitem(last=False)

    def rollback(self) -> None:
        """The open batch never happened."""
        self.open = Changes({}, {})

    def forget(self, before: float) -> list[str]:
        """Drop the sources silent since `before`, and name them."""
        silent = []
        for source, seen in self.sources.items():
            if seen.heard_at >= before:
                break
            silent.append(source)
        for source in silent:
            del self.sources[source]
        return silent

    def dump(self, changes: Changes | None = None) -> dict[str, Any]:
        """The open changes, or all, as JSON-ready values for the journal, in their order."""
        # A copy, since orjson reads the entries of an ordered dictionary in the order of their first insertion.
        sources = dict(self.sources.items()) if changes is None else changes.sources
        digests = self.ring if changes is None else changes.digests
        return {"sources": sources, "digests": list(digests.items())}

    def load(self, dumped: Mapping[str, Any]) -> None:
        """Take over what `dump` made, on top of what is known."""
        self.open = Changes(
            {source: _seen(*fields) for source, fields in dumped["sources"].items()},
            dict(dumped["digests"]),
        )
        self.commit()

    def _admit_digest(self, source: str, seen: Seen, message_id: str, now: float) -> Verdict:
        digest = int.from_bytes(blake2b(f"{source}\0{message_id}".encode(), digest_size=8).digest())
        if digest in self.ring or digest in self.open.digests:
            return Verdict.DUPLICATE
        self.open.digests[digest] = now
        self.open.sources[source] = seen._replace(heard_at=now)
        return Verdict.NEW


def _sequence(source: str, message_id: str) -> int | None:
    prefix, colon, digits = message_id.rpartition(":")
    if colon and prefix == source and _SEQUENCE.fullmatch(digits):
        return int(digits)
    return None


def _place(seen: Seen | None, sequence: int) -> tuple[Verdict, Seen]:
    """Judge a sequence that isn't the next one, and what the source has been seen to send with it."""
    if seen is None or not seen.high:
        if sequence == 1:
            return Verdict.NEW, Seen(high=1)
        # What came before may yet come: where several queues lead to this shard, they overtake one another.
        return Verdict.UNVERIFIABLE, Seen(high=sequence, gaps=(Gap(1, sequence - 1),))
    if sequence > seen.high:
        gaps = (*seen.gaps, Gap(seen.high + 1, sequence - 1)) if sequence > seen.high + 1 else seen.gaps
        return Verdict.NEW, _bounded(Seen(sequence, seen.floor, gaps))
    if sequence <= seen.floor:
        return Verdict.UNVERIFIABLE, seen
    for gap in seen.gaps:
        if gap.first <= sequence <= gap.last:
            return Verdict.NEW, _bounded(seen._replace(gaps=tuple(_filled(seen.gaps, sequence))))
    return Verdict.DUPLICATE, seen


def _filled(gaps: Iterable[Gap], sequence: int) -> Iterable[Gap]:
    for gap in gaps:
        if not gap.first <= sequence <= gap.last:
            yield gap
            continue
        if gap.first < sequence:
            yield Gap(gap.first, sequence - 1)
        if sequence < gap.last:
            yield Gap(sequence + 1, gap.last)


def _bounded(seen: Seen) -> Seen:
    """Give up telling the oldest gaps apart when there are too many."""
    if len(seen.gaps) <= MAX_GAPS:
        return seen
    return seen._replace(gaps=seen.gaps[-MAX_GAPS:], floor=seen.gaps[-MAX_GAPS - 1].last)


def _seen(high: int, floor: int, gaps: Iterable[tuple[int, int]], heard_at: float) -> Seen:
    return Seen(high, floor, tuple(Gap(*gap) for gap in gaps), heard_at)
