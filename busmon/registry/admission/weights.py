"""The bytes that series take in the value files, held to budgets: cells times the length of their keys.

A series of a histogram with many bounds and long label values may cost ten thousand times as much as one of a counter:
in the file, in the exporter's memory and in each scrape. So its cost is known before it is made. `series.bytes` says
what each shard has of each family, its open batch included. One object per shard, one thread.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from busmon.registry.admission.budgets import Budgets
from busmon.registry.admission.census import BYTES_FILE, Census
from busmon.registry.series.columns import SeriesGroup

OWN_FAMILY_BYTES = 4 * 1024 * 1024
"""Of each family that busmon itself measures, in a shard: its labels' budgets alone allow a million series."""

_ALL, _ADOPTED = 0, 1


class Weights:
    """One shard's share of the fleet's bytes.

    Args:
        registry_dir: where the table is.
        shard: whose column is written.
        is_adopted: says of a family's name whether no catalogue has it.
    """

    def __init__(self, registry_dir: Path, shard: int, is_adopted: Callable[[str], bool]) -> None:
        self._table = Census(registry_dir, BYTES_FILE, totals=2)
        self._shard = shard
        self._is_adopted = is_adopted
        self._own = {_ALL: 0, _ADOPTED: 0}

    def room(self, group: SeriesGroup, number: int | None, budgets: Budgets) -> int:
        """Return how many bytes more a family's series may take; less than 0 where they take too many.

        Args:
            group: the family's series in the shard.
            number: the family's, None if it has none yet.
            budgets: the fleet's.
        """
        family = group.family
        if family.internal:
            return OWN_FAMILY_BYTES - group.size
        others = 0 if number is None else self._table.of(number, but=self._shard)
        room = min(budgets.bytes_per_family - others - group.size, budgets.bytes - self._total(_ALL))
        if self._is_adopted(family.name):
            room = min(room, budgets.adopted_bytes - self._total(_ADOPTED))
        return room

    def add(self, group: SeriesGroup, size: int) -> None:
        """Add to the totals what is about to be made."""
        for which in self._totals_of(group):
            self._own[which] += size

    def recount(self, groups: Iterable[SeriesGroup]) -> None:
        """Add up what the shard has."""
        self._own = {_ALL: 0, _ADOPTED: 0}
        for group in groups:
            self.add(group, group.size)

    def write_totals(self) -> None:
        """Write the shard's totals.

        Raises:
            OSError: there is no room for the table.
        """
        for which, size in self._own.items():
            self._table.write_total(self._shard, size, which)

    def write(self, number: int, size: int) -> None:
        """Write what the shard has of a family.

        Raises:
            OSError: there is no room for the table.
        """
        self._table.write(number, self._shard, size)

    def close(self) -> None:
        """Unmap the table."""
        self._table.close()

    def _total(self, which: int) -> int:
        return self._table.total(which, but=self._shard) + self._own[which]

    def _totals_of(self, group: SeriesGroup) -> tuple[int, ...]:
        if group.family.internal:
            return ()
        return (_ALL, _ADOPTED) if self._is_adopted(group.family.name) else (_ALL,)
