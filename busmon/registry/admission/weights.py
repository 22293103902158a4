"""The bytes that series take in the value files, held to budgets: cells times the length of their keys.

A series of a histogram with many bounds and long label values may cost ten thousand times as much as one of a counter:
in the file, in the exporter's memory and in each scrape. So its cost is known before it is made. `series.bytes` says
what each shard has of each family; what the open batch adds is written when the batch is committed. One object per
shard, one thread.
"""

from collections.abc import Callable, Iterable, Mapping
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
        self._written = {_ALL: 0, _ADOPTED: 0}
        self._written_of: dict[str, int] = {}
        self._grown: dict[str, SeriesGroup] = {}
        self._others: dict[str, int] = {}
        self._others_in_all: dict[int, int] = {}

    def has_room(self, group: SeriesGroup, size: int, number: int | None, budgets: Budgets) -> bool:
        """Return whether a series or bin of this size is within the budgets.

        Args:
            group: whose it is.
            size: what it takes, in bytes.
            number: the family's, None if it has none yet.
            budgets: the fleet's.
        """
        family = group.family
        if family.internal:
            return group.size + size <= OWN_FAMILY_BYTES
        if self._others_in(family.name, number) + group.size + size > budgets.bytes_per_family:
            return False
        if self._total(_ALL) + size > budgets.bytes:
            return False
        return not self._is_adopted(family.name) or self._total(_ADOPTED) + size <= budgets.adopted_bytes

    def add(self, group: SeriesGroup, size: int) -> None:
        """Take note of what was made in the open batch."""
        self._grown[group.family.name] = group
        for which in self._totals_of(group):
            self._own[which] += size

    def write(self, numbers: Mapping[str, int]) -> None:
        """Write what the open batch has added.

        Raises:
            OSError: there is no room for the table.
        """
        self._look_again()
        if not self._grown:
            return
        for name, group in self._grown.items():
            if (number := numbers.get(name)) is not None:
                self._table.write(number, self._shard, group.size)
                self._written_of[name] = group.size
        for which, size in self._own.items():
            self._table.write_total(self._shard, size, which)
        self._written = dict(self._own)
        self._grown.clear()

    def settle(self, groups: Mapping[str, SeriesGroup], numbers: Mapping[str, int]) -> None:
        """Write what the shard has.

        Raises:
            OSError: there is no room for the table.
        """
        self.recount(groups.values())
        for name, number in numbers.items():
            size = self._written_of[name] = groups[name].size if name in groups else 0
            self._table.write(number, self._shard, size)
        self._grown = dict(groups)
        self.write(numbers)

    def recount(self, groups: Iterable[SeriesGroup]) -> None:
        """Add up what the shard has: the open batch was undone."""
        self._own = {_ALL: 0, _ADOPTED: 0}
        self._grown.clear()
        self._look_again()
        for group in groups:
            for which in self._totals_of(group):
                self._own[which] += group.size

    def close(self) -> None:
        """Unmap the table."""
        self._table.close()

    def _total(self, which: int) -> int:
        if which not in self._others_in_all:
            self._others_in_all[which] = self._table.total(which) - self._written[which]
        return self._others_in_all[which] + self._own[which]

    def _others_in(self, family: str, number: int | None) -> int:
        """Return what the other shards have of a family; looked for once in a batch, as a body may ask a lot."""
        if number is None:
            return 0
        if family not in self._others:
            self._others[family] = self._table.of(number) - self._written_of.get(family, 0)
        return self._others[family]

    def _look_again(self) -> None:
        self._others.clear()
        self._others_in_all.clear()

    def _totals_of(self, group: SeriesGroup) -> tuple[int, ...]:
        if group.family.internal:
            return ()
        return (_ALL, _ADOPTED) if self._is_adopted(group.family.name) else (_ALL,)
