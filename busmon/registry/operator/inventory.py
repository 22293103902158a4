"""The inventory of a registry directory, with its budgets: as data, as JSON and as text for a terminal.

Read while a fleet runs, without any lock, so it isn't of one moment. Pure readings; any process.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from busmon.catalogue.catalogue import Catalogue
from busmon.catalogue.family import GAUGE, Family
from busmon.plurals import ago
from busmon.printable import align, escape
from busmon.registry.admission import survey
from busmon.registry.admission.budgets import Budgets
from busmon.registry.admission.families import Families
from busmon.registry.admission.places import Places
from busmon.registry.admission.principal import Principal
from busmon.registry.admission.survey import SurveyedSeries, SurveyedShard

_MEGABYTE = 1_000_000
_MOST_AGENTS = 5
_MAX_COLUMN = 80
"""Characters of a cell: names are the publishers' choice, and JSON has them whole."""

_FAMILY_HEADS = (
    "family",
    "type",
    "series",
    "in all shards",
    "ttl",
    "last update",
    "owner",
    "label values not in the catalogue",
)


@dataclass(frozen=True, slots=True)
class LabelUse:
    """The number of a label's values with a place, and its limit; enumerated values aren't counted."""

    values: int
    budget: int


@dataclass(frozen=True, slots=True)
class FamilyUse:
    """One family that was written.

    Attributes:
        series: in all shards; one counts in each shard that has it.
        exposed: the same, but each once.
        ttl_seconds: None for no limit.
        owner: who had it taken up, if no catalogue names it.
        updated_at: its last update, in seconds since the epoch; None if it has none.
    """

    name: str
    type: str
    series: int
    exposed: int
    ttl_seconds: float | None
    updated_at: float | None
    labels: Mapping[str, LabelUse]
    owner: Principal | None = None


@dataclass(frozen=True, slots=True)
class Inventory:
    """The whole directory."""

    shards: list[SurveyedShard]
    families: list[FamilyUse]
    budgets: Budgets
    max_adopted: int = 0

    @property
    def adopted(self) -> Counter[str]:
        """Metrics that no catalogue names, by agent; an empty name where an earlier version took them up."""
        return Counter(family.owner.agent for family in self.families if family.owner is not None)

    @property
    def series(self) -> int:
        """The series of all families in all shards."""
        return sum(family.series for family in self.families)


def take_inventory(registry_dir: Path, catalogue: Catalogue, budgets: Budgets, max_adopted: int) -> Inventory:
    """Read the directory.

    Raises:
        RegistryError: the list of families or the log of places isn't what busmon wrote.
    """
    families = Families(registry_dir, catalogue, max_adopted)
    shards = [survey.shard_files(registry_dir, shard) for shard in survey.shards(registry_dir)]
    written = sorted(families.frozen(), key=lambda family: family.name)
    series, places = survey.series(registry_dir, written), Places(registry_dir)
    used = [_use(family, families, series[family.name], places, budgets) for family in written]
    places.close()
    return Inventory(shards, used, budgets, max_adopted)


def _use(
    family: Family, families: Families, found: list[SurveyedSeries], places: Places, budgets: Budgets
) -> FamilyUse:
    stated, owner = families.restate(family), families.owners.get(family.name)
    labels = {
        label: LabelUse(len(places.find_taken(family.name, label)), budgets.for_label(stated, label))
        for label in family.labelnames
    }
    exposed = len({series.labels for series in found})
    updated_at = max((series.at for series in found), default=0.0) or None
    return FamilyUse(family.name, family.type, len(found), exposed, stated.ttl_seconds, updated_at, labels, owner)


def document(found: Inventory) -> dict[str, Any]:
    """Return the inventory as JSON-ready values."""
    return {
        "series": {"used": found.series, "budget": found.budgets.series},
        "series_per_family": found.budgets.series_per_family,
        "adopted": {"used": found.adopted.total(), "budget": found.max_adopted, "by_agent": dict(found.adopted)},
        "shards": [asdict(shard) for shard in found.shards],
        "families": [
            {**asdict(family), "owner": family.owner._asdict() if family.owner else None} for family in found.families
        ],
    }


def text(found: Inventory, now: float) -> str:
    """Write the inventory as two tables and a sum; names of publishers are escaped, and cut where they are long."""
    shards = [("shard", "owner", "size", "in use", "last commit"), *(_shard_row(shard, now) for shard in found.shards)]
    families = [
        _FAMILY_HEADS,
        *(_family_row(family, now) for family in found.families),
    ]
    total = f"{found.series} of {found.budgets.series} series in all shards"
    total += f", at most {found.budgets.series_per_family} in a family"
    tables = [*align(shards, _MAX_COLUMN), "", *align(families, _MAX_COLUMN)]
    return "\n".join([*tables, "", total, escape(_describe_adopted(found))])


def _describe_adopted(found: Inventory) -> str:
    """Describe how many metrics were taken up, and by whom most."""
    most = ", ".join(f"{agent or 'unknown'} {count}" for agent, count in found.adopted.most_common(_MOST_AGENTS))
    used = f"{found.adopted.total()} of {found.max_adopted} metrics that no catalogue names"
    return f"{used}: {most}" if most else used


def _shard_row(shard: SurveyedShard, now: float) -> tuple[str, ...]:
    owner = "none" if shard.owner is None else str(shard.owner)
    size, used = (f"{value / _MEGABYTE:.1f} MB" for value in (shard.size_bytes, shard.used_bytes))
    return str(shard.shard), owner, size, used, _ago(shard.committed_at, now, "never")


def _family_row(family: FamilyUse, now: float) -> tuple[str, ...]:
    ttl = "none" if family.ttl_seconds is None else f"{family.ttl_seconds:g} s"
    labels = ", ".join(f"{label} {use.values}/{use.budget}" for label, use in family.labels.items())
    updated = _ago(family.updated_at, now, "no live source" if family.type == GAUGE else "never")
    owner = str(family.owner) if family.owner else ""
    series = str(family.exposed), str(family.series)
    return family.name, family.type, *series, ttl, updated, owner, labels


def _ago(at: float | None, now: float, otherwise: str) -> str:
    return otherwise if at is None else ago(now - at)
