"""The latest share of each cell of a column, so that a commit needn't look at the shares of all of a cell's sources.

Only committed shares are remembered. Pure.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Share(NamedTuple):
    """One source's value of one series.

    Attributes:
        at: its event time in seconds since the epoch.
        derived: nobody published it.
    """

    at: float
    value: float
    derived: bool = False


def counting(shares: Iterable[Share | None]) -> list[Share]:
    """Return the shares that a series' value is made of: derived ones count where nobody has said any."""
    live = [share for share in shares if share]
    return [share for share in live if not share[2]] or live


class LatestShares:
    """The sources that hold the latest shares, by cell; a derived share is older than any other."""

    def __init__(self) -> None:
        self._holders: dict[int, str] = {}

    def find(self, cell: int, held: Mapping[str, Share], changed: Mapping[str, Share | None]) -> Share | None:
        """Return the latest share of a cell; None if it has none.

        Args:
            cell: of the column.
            held: its committed shares, by source.
            changed: its shares in the open batch, by source; None for a share that left.
        """
        holder = self._holders.get(cell)
        if holder is None and held:
            holder = self._holders[cell] = max(held, key=lambda source: _rank(held[source]))
        if holder is None or holder not in changed:
            shares = [*changed.values(), held[holder] if holder is not None else None]
        elif (share := changed[holder]) is None or _rank(share) < _rank(held[holder]):
            shares = [*{**held, **changed}.values()]
        else:
            shares = [*changed.values()]
        return max(counting(shares), default=None)

    def note(self, cell: int, source: str, share: Share, held: Mapping[str, Share]) -> None:
        """Note a share that is about to be committed.

        Args:
            cell: the share's.
            source: the share's.
            share: the source's next one.
            held: the cell's committed shares, by source.
        """
        holder = self._holders.get(cell)
        if holder is None:
            return
        latest = held[holder]
        is_older = share < latest if share[2] == latest[2] else share[2]  # no call, since it is asked for each share
        if holder == source and is_older:
            del self._holders[cell]
        elif holder != source and not is_older:
            self._holders[cell] = source

    def forget(self, cell: int, source: str) -> None:
        """Note that a source's share leaves a cell."""
        if self._holders.get(cell) == source:
            del self._holders[cell]

    def clear(self) -> None:
        """Forget all: times have changed."""
        self._holders.clear()


def _rank(share: Share) -> tuple[bool, float, float]:
    return not share[2], share[0], share[1]
