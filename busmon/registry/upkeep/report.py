"""What a registry directory holds, by which budgets: as data, as JSON and as text for a terminal.

Read beside a running fleet without any lock, so it isn't of one moment. Pure readings; any process.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from busmon.catalogue.catalogue import Catalogue
from busmon.catalogue.family import GAUGE, Family
from busmon.plurals import ago
from busmon.registry.admission.budgets import Budgets
from busmon.registry.admission.families import Families
from busmon.registry.admission.places import Places
from busmon.registry.principal import Principal
from busmon.registry.upkeep import survey
from busmon.registry.upkeep.survey import Seen, ShardFiles

_MEGABYTE = 1_000_000
_MOST_AGENTS = 5


@dataclass(frozen=True, slots=True)
class LabelUse:
    """How many values of a label have a place, and how many may; the enumerated ones aren't among them."""

    values: int
    budget: int


@dataclass(frozen=True, slots=True)
class FamilyUse:
    """One family that was written.

    Attributes:
        series: in all shards; one counts in each shard that has it.
        exposed: the same, but each once.
        ttl_seconds: None for ever.
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
class Report:
    """The whole directory."""

    shards: list[ShardFiles]
    families: list[FamilyUse]
    budgets: Budgets
    max_adopted: int = 0

    @property
    def adopted(self) -> Counter[str]:
        """Metrics that no catalogue names, by agent; an empty name where an earlier version took them up."""
        return Counter(family.owner.agent for family in self.families if family.owner is not None)

    @property
    def series(self) -> int:
        """Of all families in all shards."""
        return sum(family.series for family in self.families)


def report(registry_dir: Path, catalogue: Catalogue, budgets: Budgets, max_adopted: int) -> Report:
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
    return Report(shards, used, budgets, max_adopted)


def _use(family: Family, families: Families, found: list[Seen], places: Places, budgets: Budgets) -> FamilyUse:
    stated, owner = families.stated(family), families.owners.get(family.name)
    labels = {
        label: LabelUse(len(places.taken(family.name, label)), budgets.for_label(stated, label))
        for label in family.labelnames
    }
    exposed = len({series.labels for series in found})
    updated_at = max((series.at for series in found), default=0.0) or None
    return FamilyUse(family.name, family.type, len(found), exposed, stated.ttl_seconds, updated_at, labels, owner)


def document(found: Report) -> dict[str, Any]:
    """The report as JSON."""
    return {
        "series": {"used": found.series, "budget": found.budgets.series},
        "series_per_family": found.budgets.series_per_family,
        "adopted": {"used": found.adopted.total(), "budget": found.max_adopted, "by_agent": dict(found.adopted)},
        "shards": [asdict(shard) for shard in found.shards],
        "families": [
            {**asdict(family), "owner": family.owner._asdict() if family.owner else None} for family in found.families
        ],
    }


def text(found: Report, now: float) -> str:
    """The report as two tables and a sum."""
    shards = [("shard", "owner", "size", "in use", "last commit"), *(_shard_row(shard, now) for shard in found.shards)]
    families = [
        ("family", "type", "series", "ttl", "last update", "owner", "label values"),
        *(_family_row(family, now) for family in found.families),
    ]
    total = f"{found.series} of {found.budgets.series} series, at most {found.budgets.series_per_family} in a family"
    return "\n".join([*_aligned(shards), "", *_aligned(families), "", total, _adopted(found)])


def _adopted(found: Report) -> str:
    """Say how many metrics were taken up, and by whom most."""
    most = ", ".join(f"{agent or 'unknown'} {count}" for agent, count in found.adopted.most_common(_MOST_AGENTS))
    used = f"{found.adopted.total()} of {found.max_adopted} metrics that no catalogue names"
    return f"{used}: {most}" if most else used


def _shard_row(shard: ShardFiles, now: float) -> tuple[str, ...]:
    owner = "none" if shard.owner is None else str(shard.owner)
    size, used = (f"{value / _MEGABYTE:.1f} MB" for value in (shard.size_bytes, shard.used_bytes))
    return str(shard.shard), owner, size, used, _ago(shard.committed_at, now, "never")


def _family_row(family: FamilyUse, now: float) -> tuple[str, ...]:
    ttl = "none" if family.ttl_seconds is None else f"{family.ttl_seconds:g} s"
    labels = ", ".join(f"{label} {use.values}/{use.budget}" for label, use in family.labels.items())
    updated = _ago(family.updated_at, now, "no live source" if family.type == GAUGE else "never")
    owner = str(family.owner) if family.owner else ""
    return family.name, family.type, str(family.series), ttl, updated, owner, labels


def _ago(at: float | None, now: float, otherwise: str) -> str:
    return otherwise if at is None else ago(now - at)


def _aligned(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
