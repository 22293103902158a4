"""The allotment of the whole fleet's places, series and bytes, as one shard reads it and takes part in it.

Places (`places.py`), counts (`census.py`) and bytes (`weights.py`) are the same for every process, under one lock, and
survive restarts. What a series takes is written before it is made, so no other shard takes the same room. What can't be
written is owed, and written before the series is committed. One object per shard, one thread.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import accumulate
from pathlib import Path

from busmon import files
from busmon.catalogue.family import Family
from busmon.errors import RejectedError
from busmon.reasons import SampleReason
from busmon.registry.admission import contest
from busmon.registry.admission.budgets import OTHER, Budgets
from busmon.registry.admission.census import Census
from busmon.registry.admission.families import Families, meaning
from busmon.registry.admission.places import Line, Place, Places
from busmon.registry.admission.principal import Principal
from busmon.registry.admission.weights import Weights
from busmon.registry.series.columns import SeriesGroup

LOCK_NAME = "admission.lock"


class Allotment:
    """One shard's part in the fleet's places, series and bytes.

    Attributes:
        directory: the registry's.
        budgets: as of the last load of the settings.
        places: the label values that have a place.
        is_detached: whether nothing is written any more, in a forked child that only tries a body.
    """

    def __init__(self, registry_dir: Path, shard: int, families: Families, budgets: Budgets) -> None:
        self.directory = registry_dir
        self.budgets = budgets
        self.places = Places(registry_dir)
        self.is_detached = False
        self._shard = shard
        self._families = families
        self._census = Census(registry_dir)
        self._weights = Weights(registry_dir, shard, families.is_adopted)
        self._series = 0
        self._spent: set[str] = set()
        self._is_owing = False

    def lock(self) -> AbstractContextManager[int]:
        """Hold the fleet's admission."""
        return files.hold_lock(self.directory / LOCK_NAME)

    # -- places ---------------------------------------------------------------------------------------------------

    def values_over(self, family: Family, labelvalues: tuple[str, ...], owner: Principal) -> tuple[str, ...]:
        """Return the labels whose value has no place and can't have one."""
        return tuple(
            place.label
            for place in self.places_missing(family, labelvalues)
            if self.is_full(family, place.label, owner)
        )

    def places_missing(self, family: Family, labelvalues: tuple[str, ...]) -> Iterator[Place]:
        """Yield the values that need a place and have none."""
        stated = self._families.restate(family)
        for label, value in zip(family.labelnames, labelvalues, strict=True):
            taken = self.places.find_taken(family.name, label)
            if value not in taken and value != OTHER and value not in stated.values.get(label, ()):
                yield Place(family.name, label, value)

    def is_full(self, family: Family, label: str, owner: Principal) -> bool:
        """Return whether no place of the label is left for the owner's values."""
        budget = self.budget(family, label)
        return len(self.places.find_taken(family.name, label)) >= budget - self._count_reserved(
            family, label, owner, budget
        )

    def budget(self, family: Family, label: str) -> int:
        """Return how many values of the label have a place."""
        return self.budgets.for_label(self._families.restate(family), label)

    def _count_reserved(self, family: Family, label: str, owner: Principal, budget: int) -> int:
        """Return how many places of a label are left for other users than the owner's."""
        users = self.places.users(family.name, label)
        if len({*users, owner.user}) < 2 or contest.is_below_share(users, owner.user, budget):  # noqa: PLR2004 - two users
            return 0
        return contest.reserve(budget)

    def is_lost(self, group: SeriesGroup, labelvalues: tuple[str, ...]) -> bool:
        """Return whether a value of the series had to give up its place, however lately it was seen."""
        return any(place in self.places.lost for place in self.places_missing(group.family, labelvalues))

    def readmit(self, group: SeriesGroup, labelvalues: tuple[str, ...], at: float) -> None:
        """Give a series' values their places again, over their budget if need be: they were seen meanwhile."""
        with self.lock():
            self.places.refresh()
            self.places.take(self.places_missing(group.family, labelvalues), at)

    def rewind(self, now: float) -> None:
        """Let no place be given later than now.

        Raises:
            OSError: the log can't be written.
        """
        with self.lock():
            self.places.refresh()
            self.places.take([*self.places.later_than(now)], now)

    def release(self, family: Family) -> bool:
        """Give back all of a family's places and let its definition go, if no shard has a series of it.

        Raises:
            OSError: a file of the fleet can't be written.
        """
        with self.lock():
            self.places.refresh()
            number = self.places.numbers.get(family.name)
            if number is not None and self._census.of(number):
                return False
            taken = [
                (label, value) for label in family.labelnames for value in self.places.find_taken(family.name, label)
            ]
            self.places.give_back([Place(family.name, label, value) for label, value in taken])
            self._families.unfreeze(family.name)
        return True

    def forfeit(self, agent: str, user: str | None) -> None:
        """Take all places away from an agent's label values; their series leave each shard.

        Raises:
            OSError: the log can't be written.
        """
        with self.lock():
            self.places.refresh()
            theirs = [place for place, owner in self.places.owners.items() if owner.matches(agent, user)]
            self.places.give_back(theirs, are_lost=True)
            self.places.refresh()

    def take_over(self, lines: list[Line]) -> None:
        """Take over places as another host's shard has them.

        Raises:
            OSError: the log can't be written.
        """
        with self.lock():
            self.places.refresh()
            self.places.take_over(lines)

    # -- series and bytes -----------------------------------------------------------------------------------------

    def has_room(self, group: SeriesGroup) -> bool:
        """Return whether one more series is within the budgets; busmon's own tell of what isn't, so they always are."""
        if group.family.internal:
            return True
        number = self.places.numbers.get(group.family.name)
        in_family = 0 if number is None else self._census.of(number)
        return in_family < self.budgets.series_per_family and self._census.total() < self.budgets.series

    def has_bytes(self, group: SeriesGroup, size: int) -> bool:
        """Return whether a series of this size is within the budgets."""
        return size <= self._room(group)

    def take_bytes(self, group: SeriesGroup, sizes: Iterable[int]) -> int:
        """Take room for a summary's new bins of these sizes, and return how many of them have any.

        A summary whose bytes were spent has no room before the next commit, and the sizes aren't even asked for.
        """
        if group.family.name in self._spent:
            return 0
        ends = [*accumulate(sizes)]
        with self.lock():
            taken = bisect_right(ends, self._room(group))
            if taken:
                self._take(group, ends[taken - 1])
        if taken < len(ends):
            self._spent.add(group.family.name)
        return taken

    def _room(self, group: SeriesGroup) -> int:
        """Return how many bytes more the family's series may take."""
        return self._weights.room(group, self.places.numbers.get(group.family.name), self.budgets)

    def make_series(self, group: SeriesGroup, labelvalues: tuple[str, ...], owner: Principal, now: float) -> None:
        """Make the series, with the places that it needs. A crash in between is mended when the shard is opened.

        Raises:
            RejectedError: `family_changed`.
        """
        if not self.is_detached:
            self._families.refresh()
            if meaning(self._families.freeze(group.family, owner)) != meaning(group.family):
                raise RejectedError(
                    SampleReason.FAMILY_CHANGED, "another process has written the metric in another form"
                )
            self.places.take(self.places_missing(group.family, labelvalues), now, owner)
        self._take(group, group.cost(labelvalues), series=1)
        group.cell(labelvalues)

    def _take(self, group: SeriesGroup, size: int, *, series: int = 0) -> None:
        """Have the fleet count what is about to be made; the lock is held."""
        self._series += series
        self._weights.add(group, size)
        if self.is_detached:
            return
        try:
            self._write_totals()  # first: their rows are there since the shard was opened, however full the disk is
            number = self.places.number(group.family.name)
            self._census.write(number, self._shard, len(group.cells) + series)
            self._weights.write(number, group.size + size)
        except OSError:
            self._is_owing = True

    def _write_totals(self) -> None:
        self._census.write_total(self._shard, self._series)
        self._weights.write_totals()

    def _recount(self, groups: Mapping[str, SeriesGroup]) -> None:
        """Count what the shard has, and write it for every family that has a number.

        Raises:
            OSError: there is no room for the counts.
        """
        self._series = sum(len(group.cells) for group in groups.values())
        self._weights.recount(groups.values())
        if self.is_detached:
            return
        self._write_totals()
        for name, number in self.places.numbers.items():
            group = groups.get(name)
            self._census.write(number, self._shard, len(group.cells) if group else 0)
            self._weights.write(number, group.size if group else 0)

    # -- the batch ------------------------------------------------------------------------------------------------

    def pay(self, groups: Mapping[str, SeriesGroup]) -> None:
        """Write what couldn't be written when a series was made; to be called before the series is committed.

        Raises:
            OSError: the disk is still full.
        """
        self._spent.clear()
        if self._is_owing or self.places.owes:
            self.settle(groups)

    def rollback(self, groups: Mapping[str, SeriesGroup]) -> None:
        """Give back what the series took that the open batch had made; other shards have the room at once."""
        self._spent.clear()
        try:
            self._recount(groups)
        except OSError:
            self._is_owing = True

    def settle(self, groups: Mapping[str, SeriesGroup]) -> None:
        """Write what the shard has: its files may say something else of it since its owner died.

        Raises:
            OSError: the log or the counts can't be written.
        """
        with self.lock():
            self.places.refresh()
            self.places.pay()
            for name in groups:
                self.places.number(name)
            self._recount(groups)
        self._is_owing = False

    def close(self) -> None:
        """Close the files."""
        self.places.close()
        self._census.close()
        self._weights.close()
