"""The budgets of a registry directory: label values, series, and how long an unseen value keeps its place.

Data that never changes; a reload makes another. Any thread, any process.
"""

from dataclasses import dataclass
from math import inf
from typing import Self

from busmon.catalogue.family import Family
from busmon.settings import Settings

OTHER = "other"
"""What a label value becomes that has no place. It always has one itself."""

UNBOUNDED_BYTES = 1 << 62


@dataclass(frozen=True, slots=True)
class Budgets:
    """The fleet's limits, where a family states none of its own.

    Attributes:
        label_values: values that each label of a family may take in addition to its enumerated ones.
        forget_seconds: a value unseen for longer gives its place to another.
        series_per_family: in all shards together; a series counts once in each shard that has it.
        series: of all families together, in the same way.
        forbidden_labels: names that are left out of a sample unless its family has them.
        bytes_per_family: what the entries of a family's series take in the value files of all shards together.
        bytes: the same of all families together, busmon's own left out.
        adopted_bytes: the same of all families together that no catalogue names.
    """

    label_values: int
    forget_seconds: float
    series_per_family: int
    series: int
    forbidden_labels: frozenset[str] = frozenset()
    bytes_per_family: int = UNBOUNDED_BYTES
    bytes: int = UNBOUNDED_BYTES
    adopted_bytes: int = UNBOUNDED_BYTES

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the limits that the settings state."""
        return cls(
            settings.max_label_values,
            settings.label_forget_seconds,
            settings.max_series_per_family,
            settings.max_series,
            frozenset(settings.forbidden_labels),
            settings.max_bytes_per_family,
            settings.max_bytes,
            settings.max_adopted_bytes,
        )

    def for_label(self, family: Family, label: str) -> int:
        """Return how many values the label may take in the family, `OTHER` and its enumerated ones left out."""
        return family.budgets.get(label, self.label_values)


UNBOUNDED = Budgets(1 << 62, inf, 1 << 62, 1 << 62)
"""For who opens a shard and folds nothing."""
