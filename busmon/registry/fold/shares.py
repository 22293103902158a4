"""Set gauges per series and source, and their merge over the sources that are live.

A source's share of a series is its latest value by event time, ties to the larger value. Shares that are derived from
the source's presence count only in a series of which no source says anything itself. What outlives its source is
nobody's: one share of a series, whoever said it. What an open batch sets is kept apart until `commit`, and `rollback`
forgets it. Pure: the shard persists the shares and writes the merged values.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from busmon.registry.numbers import LARGEST

NOBODY = ""
"""Stands in the place of a source that never leaves; none has this name."""

DERIVE_AGAIN_SECONDS = 60.0
"""So that a derived gauge's time shows that it is looked after, at no cost for most envelopes."""


class Share(NamedTuple):
    """One source's value of one series.

    Attributes:
        at: its event time in seconds since the epoch.
        derived: nobody published it.
    """

    at: float
    value: float
    derived: bool = False


_NONE: Mapping[str, Share] = {}

Merge = Callable[[Iterable[Share]], float]


def sum_of(shares: Iterable[Share]) -> float:
    """The merge of gauges that count things which each source has some of."""
    return sum(share.value for share in shares)


MERGES: Mapping[str, Merge] = {
    "gauge_mostrecent": lambda shares: max(shares).value,
    "gauge_sum": sum_of,
    "gauge_min": lambda shares: min(share.value for share in shares),
    "gauge_max": lambda shares: max(share.value for share in shares),
}


class Shares:
    """The shares of all series of one value file, by cell and source; those of the open batch by source and cell."""

    def __init__(self, merge: Merge) -> None:
        self._merge = merge
        self._by_cell: dict[int, dict[str, Share]] = {}
        self._by_source: dict[str, set[int]] = {}
        self._open: dict[str, dict[int, Share | None]] = {}

    def set(self, cell: int, source: str, value: float, at: float) -> None:
        """Let the source say its value, unless it has said a later one."""
        share = Share(float(at), float(value))
        opened = self._open.get(source)
        if opened is None:
            opened = self._open[source] = {}
        known = opened.get(cell) or self._by_cell.get(cell, _NONE).get(source)
        if known is None or known.derived or share > known:
            opened[cell] = share

    def replace(self, cell: int, source: str, value: float, at: float) -> None:
        """Let the source say its value, unless it has said a later one; of values of one time the last counts."""
        known = self._known(cell, source)
        if known is None or known.derived or at >= known.at:
            self._open.setdefault(source, {})[cell] = Share(float(at), float(value))

    def move(self, cell: int, source: str, change: float, at: float) -> None:
        """Change the source's value by a difference; one that it has not said is 0."""
        known = self._known(cell, source)
        value, since = (0.0, 0.0) if known is None or known.derived else (known.value, known.at)
        value = max(-LARGEST, min(value + change, LARGEST))
        self._open.setdefault(source, {})[cell] = Share(max(float(at), since), value)

    def _known(self, cell: int, source: str) -> Share | None:
        """Look a source's share up, in the open batch first; None where it left, too."""
        opened = self._open.get(source, {})
        return opened[cell] if cell in opened else self._by_cell.get(cell, _NONE).get(source)

    def derive(self, cell: int, source: str, value: float, at: float) -> None:
        """Say a value for the source, unless it has said one itself, or this was done less than a while ago."""
        known = self._open.get(source, {}).get(cell) or self._by_cell.get(cell, _NONE).get(source)
        if known is None or (known.derived and at - known.at >= DERIVE_AGAIN_SECONDS):
            self._open.setdefault(source, {})[cell] = Share(at, value, derived=True)

    def drop(self, sources: Collection[str]) -> None:
        """Take every share of these sources out, those of the open batch among them."""
        for source in sources:
            if cells := {*self._by_source.get(source, ()), *self._open.get(source, ())}:
                self._open[source] = dict.fromkeys(cells)

    def latest_at(self, source: str) -> float:
        """The latest event time of the source's shares, in seconds since the epoch; 0 if it has none."""
        cells = self._by_source.get(source, ())
        return max((self._by_cell[cell][source].at for cell in cells), default=0.0)

    def sources(self) -> Iterable[str]:
        """The sources that hold a share."""
        return self._by_source.keys()

    def merged(self) -> Iterator[tuple[int, float, float]]:
        """Each cell that the open batch touches, with its value and event time; (0, 0) where no share is left."""
        opened: dict[int, dict[str, Share | None]] = {}
        for source, shares in self._open.items():
            for cell, share in shares.items():
                opened.setdefault(cell, {})[source] = share
        for cell, changed in opened.items():
            live = [share for share in ({**self._by_cell.get(cell, _NONE), **changed}).values() if share]
            live = [share for share in live if not share.derived] or live
            if live:
                yield cell, self._merge(live), max(live).at
            else:
                yield cell, 0.0, 0.0

    def dump(self, *, whole: bool) -> Iterator[tuple[int, str, Share | None]]:
        """The open shares, or all: cell, source, and the share or None where it left."""
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
        self._open.setdefault(source, {})[cell] = share

    def commit(self) -> None:
        """What the open batch set counts for good."""
        for source, opened in self._open.items():
            for cell, share in opened.items():
                self._place(cell, source, share)
        self._open = {}

    def rollback(self) -> None:
        """The open batch never happened."""
        self._open = {}

    def _place(self, cell: int, source: str, share: Share | None) -> None:
        if share is not None:
            self._by_cell.setdefault(cell, {})[source] = share
            self._by_source.setdefault(source, set()).add(cell)
        elif cell in self._by_source.get(source, ()):
            shares, cells = self._by_cell[cell], self._by_source[source]
            del shares[source]
            cells.remove(cell)
            if not shares:
                del self._by_cell[cell]
            if not cells:
                del self._by_source[source]
