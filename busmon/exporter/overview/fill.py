"""Use of each metric family's budgets: its series in the scrape, and the series and label values that it holds.

Read during a fleet's run without a lock, as `busmon registry show` does, but from the counts that admission keeps
instead of from the value files: the cost is that of the families, not of the series. Used by the scrape's thread alone.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from busmon.catalogue.catalogue import Catalogue
from busmon.catalogue.family import Family
from busmon.errors import RegistryError
from busmon.registry.admission.budgets import OTHER, Budgets
from busmon.registry.admission.census import Census
from busmon.registry.admission.families import Families
from busmon.registry.admission.places import Places
from busmon.registry.scrape.snapshot import RegistrySnapshot
from busmon.settings import Settings

MAX_AGENTS = 50
"""Agents that are named in a scrape with what they had taken up."""


@dataclass(frozen=True, slots=True)
class FamilyRow:
    """One family.

    Attributes:
        name: as publishers write it; as exposed, where no worker of a fleet wrote it.
        type: as exposed.
        series: how many the scrape shows.
        used: series in all shards, which is what the budget counts; None where it counts none.
        budget: of series; None for busmon's own, and for what other processes wrote.
        label: the one whose places are scarcest; empty where no label has a budget.
        values: of that label, that have a place.
        values_budget: how many may.
        overflowed: samples that found no room, for their series or a label's value.
    """

    name: str
    type: str
    series: int
    used: int | None = None
    budget: int | None = None
    label: str = ""
    values: int = 0
    values_budget: int = 0
    overflowed: float = 0.0

    @property
    def label_fill(self) -> float:
        """Return the share of the fullest label's budget that is taken; 1 is full."""
        return self.values / self.values_budget if self.values_budget else 0.0

    @property
    def fill(self) -> float:
        """The larger share of its budgets that is taken; 1 is full."""
        return max((self.used or 0) / self.budget if self.budget else 0.0, self.label_fill)


class Fill:
    """One registry directory's budgets, and what is taken of them.

    Args:
        settings: which directory, and the fleet's limits.
        catalogue: states what a family's own limits are.
    """

    def __init__(self, settings: Settings, catalogue: Catalogue) -> None:
        self._directory = settings.registry_dir
        self._catalogue = catalogue
        self._budgets = Budgets.of(settings)
        self._adopted_budget = settings.max_adopted_families
        self._families: Families | None = None
        self._places: Places | None = None
        self._census = Census(settings.registry_dir)

    @property
    def used(self) -> int:
        """Series of all families in all shards."""
        with suppress(OSError):
            return self._census.total()
        return 0

    def count_adopted(self) -> Mapping[str, int]:
        """Count each agent's metrics that no catalogue names; those of agents beyond `MAX_AGENTS` as `other`."""
        with suppress(RegistryError, OSError):
            self._follow()
        by_agent: Counter[str] = Counter()
        for owner, count in (self._families.count_held() if self._families else Counter()).items():
            by_agent[owner.agent or OTHER] += count
        named = dict(by_agent.most_common(MAX_AGENTS))
        if rest := by_agent.total() - sum(named.values()):
            named[OTHER] = named.get(OTHER, 0) + rest
        return named

    @property
    def adopted_budget(self) -> int:
        """Return how many metrics may be taken up that no catalogue names."""
        return self._adopted_budget

    @property
    def budget(self) -> int:
        """The limit of series of all families together."""
        return self._budgets.series

    def rows(self, snapshot: RegistrySnapshot, shown: Mapping[str, int]) -> tuple[FamilyRow, ...]:
        """List the families of a collection, the fullest first.

        Args:
            snapshot: the collection.
            shown: how many series of each family the scrape shows.
        """
        # What can't be read is named by the scrape; here it costs the budgets only.
        with suppress(RegistryError, OSError):
            self._follow()
        written = {family.metric_name: family for family in self._families.frozen()} if self._families else {}
        refused = snapshot.by_label("busmon_series_overflow_total", "metric")
        for metric, count in snapshot.by_label("busmon_label_overflow_total", "metric").items():
            refused[metric] = refused.get(metric, 0.0) + count
        rows = (
            self._row(written.get(name), name, family.type, shown.get(name, 0), refused)
            for name, family in snapshot.families.items()
        )
        return tuple(sorted(rows, key=_fullest_first))

    def _follow(self) -> None:
        if self._families is None:
            self._families = Families(self._directory, self._catalogue, max_adopted=0)
        self._families.refresh()
        if self._places is None:
            self._places = Places(self._directory)
        self._places.refresh()

    def _row(
        self, family: Family | None, name: str, type_: str, series: int, refused: Mapping[str, float]
    ) -> FamilyRow:
        if family is None or self._places is None:
            return FamilyRow(name, type_, series)
        label, values, values_budget = self._scarcest(family, self._places)
        return FamilyRow(
            family.name,
            type_,
            series,
            None if family.internal else self._count_used(family, self._places),
            None if family.internal else self._budgets.series_per_family,
            label,
            values,
            values_budget,
            refused.get(family.name, 0.0),
        )

    def _count_used(self, family: Family, places: Places) -> int:
        number = places.numbers.get(family.name)
        return 0 if number is None else self._census.of(number)

    def _scarcest(self, family: Family, places: Places) -> tuple[str, int, int]:
        """Find the label with the largest share of its budget taken, its number of values, and their limit."""
        stated = self._families.restate(family) if self._families else family
        fills = (
            (label, len(places.find_taken(family.name, label)), self._budgets.for_label(stated, label))
            for label in family.labelnames
        )
        return max(_keep_taken(fills), key=lambda fill: fill[1] / max(fill[2], 1), default=("", 0, 0))


def _keep_taken(fills: Iterable[tuple[str, int, int]]) -> Iterable[tuple[str, int, int]]:
    """Keep the labels with values: a label whose values are all enumerated takes no place."""
    return (fill for fill in fills if fill[1])


def _fullest_first(row: FamilyRow) -> tuple[float, int, str]:
    return -row.fill, -row.series, row.name
