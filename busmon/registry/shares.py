"""Set gauges per series and source, and their merge over the sources that are live.

A source's share of a series is its latest value by event time, ties to the larger value. What an open batch sets is
kept apart until `commit`, and `rollback` forgets it. Pure: the shard persists the shares and writes the merged
values.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple


class Share(NamedTuple):
    """One source's value of one series; `at` is its event time in seconds since the epoch."""

    at: float
    value: float


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
    """The shares of all series of one value file, by cell and source."""

    def __init__(self, merge: Merge) -> None:
        self._merge = merge
        self._by_cell: dict[int, dict[str, Share]] = {}
        self._by_source: dict[str, set[int]] = {}
        self._open: dict[int, dict[str, Share | None]] = {}

    def set(self, cell: int, source: str, value: float, at: float) -> None:
        """Let the source say its value, unless it has said a later one."""
        share = Share(float(at), float(value))
        opened = self._open.setdefault(cell, {})
        known = opened.get(source) or self._by_cell.get(cell, {}).get(source)
        if known is None or share > known:
            opened[source] = share

    def drop(self, sources: Iterable[str]) -> None:
        """Take every share of these sources out."""
        for source in sources:
            for cell in self._by_source.get(source, ()):
                self._open.setdefault(cell, {})[source] = None

    def sources(self) -> Iterable[str]:
        """The sources that hold a share."""
        return self._by_source.keys()

    def merged(self) -> Iterator[tuple[int, float, float]]:
        """Each cell that the open batch touches, with its value and event time; (0, 0) where no share is left."""
        for cell, opened in self._open.items():
            live = [share for share in ({**self._by_cell.get(cell, {}), **opened}).values() if share]
            if live:
                yield cell, self._merge(live), max(live).at
            else:
                yield cell, 0.0, 0.0

    def dump(self, *, whole: bool) -> Iterator[tuple[int, str, Share | None]]:
        """The open shares, or all: cell, source, and the share or None where it left."""
        for cell, shares in (self._by_cell if whole else self._open).items():
            for source, share in shares.items():
                yield cell, source, share

    def load(self, cell: int, source: str, share: Share | None) -> None:
        """Take over what `dump` gave; `commit` makes it count."""
        self._open.setdefault(cell, {})[source] = share

    def commit(self) -> None:
        """What the open batch set counts for good."""
        for cell, opened in self._open.items():
            shares = self._by_cell.setdefault(cell, {})
            for source, share in opened.items():
                self._place(cell, source, share, shares)
            if not shares:
                del self._by_cell[cell]
        self._open = {}

    def rollback(self) -> None:
        """The open batch never happened."""
        self._open = {}

    def _place(self, cell: int, source: str, share: Share | None, shares: dict[str, Share]) -> None:
        if share is not None:
            shares[source] = share
            self._by_source.setdefault(source, set()).add(cell)
        elif shares.pop(source, None) is not None:
            cells = self._by_source[source]
            cells.discard(cell)
            if not cells:
                del self._by_source[source]
