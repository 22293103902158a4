"""The ledger of a shard's counted envelopes: asked for each of them, bounded in memory, changed only by a commit.

An id `<source>:<sequence>` is known by its source's highest sequence and the gaps below it; any other id by its
digest, with its source's, in a ring. Bodies without an id are in `bodies.py`. A source belongs to the user that opened
it. When there are too many sources, the greediest principal's go first (`accounts.py`). What an open batch admits is
kept apart until `commit`, and `rollback` forgets it. Pure: the shard persists it.
"""

import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from busmon import compiled
from busmon.registry.ledger import usual_ids
from busmon.registry.ledger.accounts import Accounts
from busmon.registry.ledger.bodies import Bodies
from busmon.registry.ledger.source_record import Gap, SourceRecord, Verdict
from busmon.registry.ledger.usual_ids import digest_of

RING_SIZE = 65_536
MAX_GAPS = 64
MAX_SOURCES = 100_000
FORGET_AFTER_SECONDS = 24 * 3600.0

_admit_usual = (compiled.find("busmon.registry.ledger.compiled_usual_ids") or usual_ids).admit

_SEQUENCE = re.compile(r"[1-9][0-9]{0,17}")


@dataclass(slots=True)
class Changes:
    """The changes of one batch.

    Attributes:
        sources: those that it heard.
        digests: of ids that aren't sequences, with their times of arrival.
        bodies: the digests of bodies without an id.
    """

    sources: dict[str, SourceRecord]
    digests: dict[int, float]
    bodies: list[int] = field(default_factory=list)


class Ledger:
    """One shard's memory of ids and of when each source was last heard.

    The ring is an ordered dictionary, the oldest entry first. A plain one passes over all that it ever deleted before
    it finds its first entry, so that evicting one by one costs the square of what is evicted. The order of sources is
    their accounts'.

    Attributes:
        checks_users: a source takes envelopes of the user that opened it only; of anyone, if none was stated.
        evicted: how many sources were forgotten for want of room, by the agent of their account.
    """

    def __init__(self, *, checks_users: bool = True) -> None:
        self.checks_users = checks_users
        self.evicted: Counter[str] = Counter()
        self._accounts = Accounts()
        self.sources: dict[str, SourceRecord] = {}
        self.ring: OrderedDict[int, float] = OrderedDict()
        self.open = Changes({}, {})
        self._bodies = Bodies()

    def admit_all(
        self,
        sources: Sequence[str],
        message_ids: Sequence[str | None],
        now: float,
        users: Sequence[str | None],
        agents: Sequence[str],
    ) -> list[Verdict]:
        """Judge envelopes in their order and, but for duplicates and foreign ones, take note of them in the open batch.

        Most are the next of their source, or have an id that isn't a sequence.
        """
        verdicts: list[Verdict] = []
        while len(verdicts) < len(sources):
            _admit_usual(
                sources,
                message_ids,
                users,
                now,
                verdicts,
                known=self.sources,
                opened=self.open.sources,
                ring=self.ring,
                digests=self.open.digests,
                is_free=not self.checks_users,
            )
            if (place := len(verdicts)) < len(sources):
                judged = sources[place], message_ids[place], now, users[place], agents[place]
                verdicts.append(self._judge(*judged))
        return verdicts

    def admit(
        self, source: str, message_id: str | None, now: float, user: str | None = None, agent: str = ""
    ) -> Verdict:
        """Judge one envelope."""
        return self.admit_all((source,), (message_id,), now, (user,), (agent,))[0]

    def is_foreign(self, source: str, user: str | None) -> bool:
        """Return whether the source belongs to another user."""
        seen = self._find(source)
        return seen is not None and self.checks_users and bool(seen.user) and seen.user != user

    def is_opened_by(self, source: str, user: str) -> bool:
        """Return whether the source is remembered, and that user opened it."""
        seen = self._find(source)
        return seen is not None and seen.user == user

    def _find(self, source: str) -> SourceRecord | None:
        return self.open.sources.get(source) or self.sources.get(source)

    def _judge(self, source: str, message_id: str | None, now: float, user: str | None, agent: str) -> Verdict:
        if self.is_foreign(source, user):
            return Verdict.FOREIGN
        seen = self._find(source) or SourceRecord(user=user or "", agent=agent)
        if not message_id:  # some clients send an empty one where they have none
            self.open.sources[source] = seen._replace(heard_at=now)
            return Verdict.UNIDENTIFIED
        sequence = _sequence(source, message_id)
        if sequence is None:
            return self._admit_digest(source, seen, message_id, now)
        verdict, changed = _place(seen, sequence)
        if verdict is not Verdict.DUPLICATE:
            self.open.sources[source] = changed._replace(heard_at=now)
        return verdict

    def hear(self, source: str, now: float, user: str | None = None, agent: str = "") -> None:
        """Take note that a source lives, by whatever it sent."""
        seen = self._find(source) or SourceRecord(user=user or "", agent=agent)
        self.open.sources[source] = seen._replace(heard_at=now)

    def count_body(self, source: str, body: bytes) -> int:
        """Return how many of the source's last bodies without an id had these bytes when they were counted."""
        return self._bodies.count(digest_of(source, body))

    def note_body(self, source: str, body: bytes) -> None:
        """Take note of a body without an id: it may come again."""
        self.open.bodies.append(digest_of(source, body))

    def knows(self, source: str) -> bool:
        """Return whether the source is remembered; one that was evicted isn't."""
        return self._find(source) is not None

    def find_heard_at(self, source: str) -> float:
        """Return when the source was last heard, in the open batch or before; 0 for one that isn't known."""
        seen = self._find(source)
        return seen.heard_at if seen else 0.0

    def ring_span(self, now: float) -> float:
        """Return how old the oldest id in the ring is, in seconds: a resend of another id within that time is known."""
        return max(0.0, now - next(iter(self.ring.values()), now))

    def commit(self) -> None:
        """Count for good what the open batch admitted."""
        hear = self._accounts.hear
        for source, seen in self.open.sources.items():
            hear(source, seen.user, seen.agent, seen.heard_at)
        self.sources.update(self.open.sources)
        self.ring.update(self.open.digests)
        self._bodies.add(self.open.bodies)
        self.rollback()
        while len(self.ring) > RING_SIZE:
            self.ring.popitem(last=False)
        if len(self.sources) > MAX_SOURCES:
            self._evict(len(self.sources) - MAX_SOURCES)

    def _evict(self, excess: int) -> None:
        for agent, source in self._accounts.evict(excess):
            del self.sources[source]
            self.evicted[agent] += 1

    def move(self, seconds: float, now: float) -> bool:
        """Move the times of all sources and ids, but to none later than now: the clock was set.

        Returns:
            Whether a time changed.
        """
        is_changed = False
        for sources in (self.sources, self.open.sources):
            for source, seen in sources.items():
                if (at := min(seen.heard_at + seconds, now)) != seen.heard_at:
                    sources[source] = seen._replace(heard_at=at)
                    is_changed = True
        for digests in (self.ring, self.open.digests):
            for digest, since in digests.items():
                digests[digest] = min(since + seconds, now)
        self._accounts.move(seconds, now)
        return is_changed

    def rollback(self) -> None:
        """Forget the open batch."""
        self.open = Changes({}, {})

    def forget(self, before: float) -> list[str]:
        """Drop the sources silent since `before`, and return their names."""
        silent = [*self._accounts.take_silent(lambda source: self.sources[source].heard_at, before)]
        for source in silent:
            del self.sources[source]
        return silent

    def dump(self, changes: Changes | None = None) -> dict[str, Any]:
        """Return the open changes, or all, as JSON-ready values for the journal, in their order."""
        if changes is not None:
            return {"sources": changes.sources, "digests": list(changes.digests.items()), "bodies": changes.bodies}
        sources = {source: self.sources[source] for source in self._accounts.in_order()}
        digests, bodies = list(self.ring.items()), self._bodies.dump()
        return {"accounts": self._accounts.dump(), "sources": sources, "digests": digests, "bodies": bodies}

    def load(self, dumped: Mapping[str, Any]) -> None:
        """Take over what `dump` made, on top of what is known."""
        self._accounts.load(dumped.get("accounts", ()))
        self.open = Changes(
            {source: _read_record(*fields) for source, fields in dumped["sources"].items()},
            dict(dumped["digests"]),
        )
        self._bodies.load(dumped.get("bodies"))
        self.evicted.clear()  # each record counts what the record before it evicted
        self.commit()

    def _admit_digest(self, source: str, seen: SourceRecord, message_id: str, now: float) -> Verdict:
        digest = digest_of(source, message_id.encode())
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


def _place(seen: SourceRecord, sequence: int) -> tuple[Verdict, SourceRecord]:
    """Judge a sequence that isn't the next one, and what the source has been seen to send with it."""
    if not seen.high:
        if sequence == 1:
            return Verdict.NEW, seen._replace(high=1)
        # What came before may yet come: where several queues lead to this shard, they overtake one another.
        return Verdict.UNVERIFIABLE, seen._replace(high=sequence, gaps=(Gap(1, sequence - 1),))
    if sequence > seen.high:
        gaps = (*seen.gaps, Gap(seen.high + 1, sequence - 1)) if sequence > seen.high + 1 else seen.gaps
        return Verdict.NEW, _merge_oldest_gaps(seen._replace(high=sequence, gaps=gaps))
    if sequence <= seen.floor:
        return Verdict.UNVERIFIABLE, seen
    for gap in seen.gaps:
        if gap.first <= sequence <= gap.last:
            return Verdict.NEW, _merge_oldest_gaps(seen._replace(gaps=tuple(_fill_gap(seen.gaps, sequence))))
    return Verdict.DUPLICATE, seen


def _fill_gap(gaps: Iterable[Gap], sequence: int) -> Iterable[Gap]:
    for gap in gaps:
        if not gap.first <= sequence <= gap.last:
            yield gap
            continue
        if gap.first < sequence:
            yield Gap(gap.first, sequence - 1)
        if sequence < gap.last:
            yield Gap(sequence + 1, gap.last)


def _merge_oldest_gaps(seen: SourceRecord) -> SourceRecord:
    """Merge the oldest gaps when there are too many: ids in them count as known."""
    if len(seen.gaps) <= MAX_GAPS:
        return seen
    return seen._replace(gaps=seen.gaps[-MAX_GAPS:], floor=seen.gaps[-MAX_GAPS - 1].last)


def _read_record(high: int, floor: int, gaps: Iterable[tuple[int, int]], heard_at: float, *opener: str) -> SourceRecord:
    """Read one source's fields from the journal; an earlier version noted no user and no agent."""
    return SourceRecord(high, floor, tuple(Gap(*gap) for gap in gaps), heard_at, *opener)
