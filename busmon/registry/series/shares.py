"""The set gauges per series and source, and their merge over the sources that are live.

A source's share of a series is its latest value by event time, ties to the larger value. Shares that are derived from
the source's presence count only in a series of which no source says anything itself. What outlives its source is
nobody's: one share of a series, whoever said it. What an open batch sets is kept apart until `commit`, and `rollback`
forgets it. Pure: the shard persists the shares and writes the merged values.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from busmon.bare import bare
from busmon.errors import RejectedError
from busmon.reasons import SampleReason
from busmon.registry.series.latest import LatestShares, Share, counting
from busmon.wire.floats import LARGEST

NOBODY = ""
"""The name of a source that never leaves; no real source has it."""

DERIVE_AGAIN_SECONDS = 60.0
"""So that a derived gauge's time shows that it is looked after, at no cost for most envelopes."""


MAX_SHARES = 100_000
"""Of one shard, those left out that presence alone says; a third of a kilobyte each, in memory and in the journal."""

MAX_SHARES_OF_AGENT = 25_000
"""Of one shard, so that four agents have to be greedy before a fifth has no room."""


NO_ROOM = RejectedError(SampleReason.SHARE_BUDGET, "no place is left for another source's value of a gauge")


_NONE: Mapping[str, Share] = {}
_NO_CELL: Mapping[int, Share] = {}

Merge = Callable[[Iterable[Share]], float]


def sum_of(shares: Iterable[Share]) -> float:
    """Return the merge of gauges that count things which each source has some of."""
    return sum(share.value for share in shares)


def latest_of(shares: Iterable[Share]) -> float:
    """Return the merge of gauges of which the latest value counts, whoever says it."""
    return max(shares).value


MERGES: Mapping[str, Merge] = {
    "gauge_mostrecent": latest_of,
    "gauge_sum": sum_of,
    "gauge_min": lambda shares: min(share.value for share in shares),
    "gauge_max": lambda shares: max(share.value for share in shares),
}


class Room:
    """The count of sources' gauges that one shard remembers, in all and of each agent.

    A source's agent is the first one that named it since the shard was opened; until then nobody's.

    Attributes:
        agent: of what is being folded.
        taken: in all.
    """

    def __init__(self) -> None:
        self.agent = ""
        self.taken = 0
        self._of_agent: Counter[str] = Counter()
        self._of_source: Counter[str] = Counter()
        self._agents: dict[str, str] = {}

    def take(self, source: str) -> None:
        """Have one more share of this source.

        Raises:
            RejectedError: `share_budget`.
        """
        if source == NOBODY:
            return
        if self.is_spent(source):
            raise RejectedError(*NO_ROOM.args)
        self._name(source)
        self.add(source)

    @property
    def left(self) -> int:
        """Return how many more shares there is room for, whoever takes them; some may take more. Below 0 if none is."""
        return MAX_SHARES_OF_AGENT - self.taken

    def is_wide(self, source: str, more: int) -> bool:
        """Return whether there is room for so many more shares of this source."""
        agent = self._agents.get(source)
        charged = self._of_agent.get(agent or self.agent, 0) + (0 if agent else self._of_source.get(source, 0))
        return self.taken + more <= MAX_SHARES and charged + more <= MAX_SHARES_OF_AGENT

    def is_spent(self, source: str) -> bool:
        """Return whether there is no room for one more share of this source."""
        return not self.is_wide(source, 1)

    def add(self, source: str) -> None:
        """Have one more share of this source, whatever the bounds are: it is in the shard's files."""
        if source != NOBODY:
            self._count(source, 1)

    def give(self, source: str) -> None:
        """Have one share less of this source."""
        if source != NOBODY:
            self._count(source, -1)
            self._forget(source)

    def _count(self, source: str, more: int) -> None:
        self.taken += more
        self._of_source[source] += more
        self._of_agent[self._agents.setdefault(source, "")] += more

    def _name(self, source: str) -> None:
        """Let the agent have the source's shares, if nobody has."""
        if self._agents.get(source):
            return
        if held := self._of_source[source]:
            self._of_agent[""] -= held
            self._of_agent[self.agent] += held
        self._agents[source] = self.agent

    def _forget(self, source: str) -> None:
        """Forget a source that has no shares, and an agent that has none."""
        if not self._of_source[source]:
            del self._of_source[source]
            agent = self._agents.pop(source, "")
            if not self._of_agent[agent]:
                del self._of_agent[agent]


class Shares:
    """The shares of all series of one value file, by cell and source; those of the open batch by source and cell.

    Attributes:
        room: of the whole shard.
    """

    def __init__(self, merge: Merge) -> None:
        self.room = Room()
        self._merge = merge
        self._latest = LatestShares() if merge is latest_of else None
        self._by_cell: dict[int, dict[str, Share]] = {}
        self._by_source: dict[str, dict[int, Share]] = {}
        self._open: dict[str, dict[int, Share | None]] = {}

    def find(self, source: str) -> tuple[dict[int, Share | None], Mapping[int, Share]]:
        """Return the source's shares in the open batch and its committed shares, by cell."""
        opened = self._open.get(source)
        if opened is None:
            opened = self._open[source] = {}
        return opened, self._by_source.get(source, _NO_CELL)

    def set(self, cell: int, source: str, value: float, at: float) -> None:
        """Let the source say its value, unless it has said a later one.

        Raises:
            RejectedError: `share_budget`: it has said none yet, and there is no room for another.
        """
        share = bare(Share, (float(at), float(value), False))
        opened, held = self.find(source)
        known = opened.get(cell) or held.get(cell)
        if known is None or known.derived:
            self.room.take(source)
            opened[cell] = share
        elif share > known:
            opened[cell] = share

    def replace(self, cell: int, source: str, value: float, at: float) -> None:
        """Let the source say its value, unless it has said a later one; of values of one time the last counts.

        Raises:
            RejectedError: as of `set`.
        """
        known = self._look_up(cell, source)
        if known is None or known.derived or at >= known.at:
            self._require_room(cell, source)
            self._open.setdefault(source, {})[cell] = Share(float(at), float(value))

    def move(self, cell: int, source: str, change: float, at: float) -> None:
        """Change the source's value by a difference; one that it has not said is 0.

        Raises:
            RejectedError: as of `set`.
        """
        known = self._look_up(cell, source)
        value, since = (0.0, 0.0) if known is None or known.derived else (known.value, known.at)
        value = max(-LARGEST, min(value + change, LARGEST))
        self._require_room(cell, source)
        self._open.setdefault(source, {})[cell] = Share(max(float(at), since), value)

    def _require_room(self, cell: int, source: str) -> None:
        """Take room for a share, unless the source has it already.

        Raises:
            RejectedError: `share_budget`.
        """
        opened = self._open.get(source, {}).get(cell)
        counted = opened or self._by_cell.get(cell, _NONE).get(source)
        if counted is None or counted.derived:
            self.room.take(source)

    def _look_up(self, cell: int, source: str) -> Share | None:
        """Look a source's share up, in the open batch first; None where it left, too."""
        opened = self._open.get(source, {})
        return opened[cell] if cell in opened else self._by_cell.get(cell, _NONE).get(source)

    def has_said(self, cell: int, source: str) -> bool:
        """Return whether the source has said a value of its own."""
        known = self._open.get(source, {}).get(cell) or self._by_cell.get(cell, _NONE).get(source)
        return known is not None and not known.derived

    def derive(self, cell: int, source: str, value: float, at: float) -> None:
        """Derive a value for the source, unless it has said one itself, or one was derived recently."""
        known = self._open.get(source, {}).get(cell) or self._by_cell.get(cell, _NONE).get(source)
        if known is None or (known.derived and at - known.at >= DERIVE_AGAIN_SECONDS):
            self._open.setdefault(source, {})[cell] = Share(at, value, derived=True)

    def drop(self, sources: Collection[str]) -> None:
        """Take every share of these sources out, those of the open batch among them."""
        for source in sources:
            self._forget_open(source)
            if held := self._by_source.get(source):
                self._open[source] = dict.fromkeys(held)

    def remove(self, cell: int, source: str) -> None:
        """Take out the source's share of one series."""
        if self._look_up(cell, source) is not None:
            self._open.setdefault(source, {})[cell] = None

    def latest_at(self, source: str) -> float:
        """Return the latest event time of the source's shares, in seconds since the epoch; 0 if it has none."""
        return max((share.at for share in self._by_source.get(source, _NO_CELL).values()), default=0.0)

    def sources(self) -> Iterable[str]:
        """Return the sources that hold a share."""
        return self._by_source.keys()

    def merge(self) -> Iterator[tuple[int, float, float]]:
        """Yield each cell that the open batch touches, with its value and event time; (0, 0) where no share is left."""
        opened: dict[int, dict[str, Share | None]] = {}
        for source, shares in self._open.items():
            for cell, share in shares.items():
                opened.setdefault(cell, {})[source] = share
        for cell, changed in opened.items():
            held = self._by_cell.get(cell, _NONE)
            if self._latest is not None:
                latest = self._latest.find(cell, held, changed)
                yield (cell, latest.value, latest.at) if latest else (cell, 0.0, 0.0)
                continue
            if live := counting({**held, **changed}.values()):
                yield cell, self._merge(live), max(live).at
            else:
                yield cell, 0.0, 0.0

    def dump(self, *, whole: bool) -> Iterator[tuple[int, str, Share | None]]:
        """Yield the open shares, or all: cell, source, and the share or None where it left."""
        if whole:
            for cell, by_source in self._by_cell.items():
                for source, share in by_source.items():
                    yield cell, source, share
            return
        for source, by_cell in self._open.items():
            for cell, opened in by_cell.items():
                yield cell, source, opened

    def load(self, cell: int, source: str, share: Share | None) -> None:
        """Take over what `dump` gave; `commit` makes it count."""
        known = self._open.get(source, {}).get(cell) or self._by_cell.get(cell, _NONE).get(source)
        if share is not None and not share.derived and (known is None or known.derived):
            self.room.add(source)
        self._open.setdefault(source, {})[cell] = share

    def commit(self) -> None:
        """Count for good what the open batch set."""
        for source, opened in self._open.items():
            for cell, share in opened.items():
                self._place(cell, source, share)
        self._open = {}

    def rewind(self, now: float, stamps: Collection[int] = ()) -> bool:
        """Let no share be later than now: the clock was set back, and a later one would be refused until then.

        Args:
            now: seconds since the epoch.
            stamps: the cells whose values are times, too.

        Returns:
            Whether a share was later.
        """
        is_changed = False
        for cell, shares in self._by_cell.items():
            for source, share in shares.items():
                if share.at > now:
                    shares[source] = self._by_source[source][cell] = _rewound(share, now, is_stamp=cell in stamps)
                    is_changed = True
        for opened in self._open.values():
            for cell, kept in opened.items():
                if kept is not None and kept.at > now:
                    opened[cell] = _rewound(kept, now, is_stamp=cell in stamps)
        if is_changed and self._latest is not None:
            self._latest.clear()
        return is_changed

    def rollback(self) -> None:
        """Undo the open batch."""
        for source in list(self._open):
            self._forget_open(source)

    def _forget_open(self, source: str) -> None:
        """Forget what the source says in the open batch, and give back the room of what it says for the first time."""
        for cell, share in self._open.pop(source, {}).items():
            known = self._by_cell.get(cell, _NONE).get(source)
            if share is not None and not share.derived and (known is None or known.derived):
                self.room.give(source)

    def _place(self, cell: int, source: str, share: Share | None) -> None:
        if share is not None:
            shares = self._by_cell.get(cell)
            if shares is None:
                shares = self._by_cell[cell] = {}
            if self._latest is not None:
                self._latest.note(cell, source, share, shares)
            held = self._by_source.get(source)
            if held is None:
                held = self._by_source[source] = {}
            shares[source] = held[cell] = share
        elif left := self._by_source.get(source, {}).pop(cell, None):
            if not left.derived:
                self.room.give(source)
            shares = self._by_cell[cell]
            del shares[source]
            if self._latest is not None:
                self._latest.forget(cell, source)
            if not shares:
                del self._by_cell[cell]
            if not self._by_source[source]:
                del self._by_source[source]


def _rewound(share: Share, now: float, *, is_stamp: bool) -> Share:
    return share._replace(at=now, value=min(share.value, now) if is_stamp else share.value)
