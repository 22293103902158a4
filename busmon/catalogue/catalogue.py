"""The catalogue: every metric family that the fleet knows, from the built-in files and then the user's.

Loading reads files and does nothing else; a catalogue never changes, a reload makes another. No two families claim one
exposed name. Any thread, any process.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from busmon.catalogue import naming
from busmon.catalogue.adoption import adopt_buckets, adopt_family
from busmon.catalogue.family import HISTOGRAM, Family
from busmon.catalogue.mapping import Mappings
from busmon.catalogue.parse import read, read_rules
from busmon.errors import AdoptionError, CatalogueError
from busmon.reasons import SampleReason

PLATFORM = Path(__file__).with_name("platform.toml")
CELERY = Path(__file__).with_name("celery.toml")
OWN = Path(__file__).with_name("own.toml")
BUILT_IN = (PLATFORM, CELERY, OWN)

MEASURED_BY_WORKER = frozenset({"message_latency_seconds", "message_size_bytes"})
"""The strategy's families that a worker also observes itself, for every envelope."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Families by name.

    Attributes:
        origins: the file that each family comes from, by family name.
        occupied: the family that each exposed name belongs to.
        mappings: rules for the names that other formats have; those of an earlier file come first.
    """

    families: Mapping[str, Family]
    origins: Mapping[str, Path]
    occupied: Mapping[str, str]
    mappings: Mappings = field(default_factory=Mappings, compare=False)

    @classmethod
    def load(cls, paths: Sequence[Path] = ()) -> Self:
        """Load the built-in families, then the user's, file by file. A later family replaces one of its name wholly.

        Raises:
            CatalogueError: a file can't be read, a key isn't accepted, or two families claim one exposed name.
        """
        families: dict[str, Family] = {}
        origins: dict[str, Path] = {}
        for path in BUILT_IN:
            built_in = read(path)
            families |= built_in
            origins |= dict.fromkeys(built_in, path)
        for path in paths:
            for family in read(path).values():
                # A replaced family goes to the end, so that a clash is blamed on the file that brought it.
                families[family.name] = _adapt(family, families.pop(family.name, None), path)
                origins[family.name] = path
        mappings = Mappings([rule for path in paths for rule in read_rules(path)])
        return cls(families, origins, _list_names(families, origins), mappings)

    def adopt(  # noqa: PLR0913 - all that a sample can state of its metric
        self,
        name: str,
        type_: str,
        labelnames: Sequence[str],
        merge: str = "latest",
        buckets: Sequence[float] | None = None,
        *,
        outlives_source: bool = False,
    ) -> Family:
        """Make a family for a metric that no catalogue names, and whose publisher states its type.

        A histogram has the bounds that its first sample states, if only +Inf; None gives it the default ones.

        Raises:
            AdoptionError: its reason is `invalid_name`, `reserved_name`, `invalid_type`, `invalid_merge`,
                `outlives_source_mismatch`, `invalid_label`, `bucket_mismatch` or `name_clash`.
        """
        family = adopt_family(name, type_, labelnames, merge, outlives_source=outlives_source)
        if buckets is not None and type_ == HISTOGRAM:
            family = replace(family, buckets=adopt_buckets(name, buckets))
        for exposed in family.exposed:
            if owner := self.occupied.get(exposed):
                raise AdoptionError(
                    SampleReason.NAME_CLASH, f"{type_} {name!r}: the name {exposed!r} belongs to {owner!r}"
                )
        return family


def _adapt(family: Family, replaced: Family | None, path: Path) -> Family:
    """Adapt a user's family to busmon's own of the same name."""
    place = f"{path}: {family.type}.{family.name}"
    if family.internal:
        raise CatalogueError(f"{place}.internal: expected no such key: only busmon's own families are internal")
    if replaced is None:
        if naming.is_reserved(family.name):
            raise CatalogueError(f"{place}: expected another name: busmon or Prometheus makes this one")
        return family
    if naming.is_reserved(family.name) or family.name in MEASURED_BY_WORKER:
        kept = (replaced.type, replaced.labelnames, replaced.merge)
        if (family.type, family.labelnames, family.merge) != kept:
            shape = f"a {replaced.type} with labels [{', '.join(replaced.labelnames)}]"
            raise CatalogueError(f"{place}: expected {shape}, as busmon measures it; help and buckets may differ")
    return replace(family, internal=replaced.internal)


def _list_names(families: Mapping[str, Family], origins: Mapping[str, Path]) -> dict[str, str]:
    occupied: dict[str, str] = {}
    for family in families.values():
        for exposed in family.exposed:
            owner = families[occupied.setdefault(exposed, family.name)]
            if owner is not family:
                raise CatalogueError(
                    f"{origins[family.name]}: {family.type}.{family.name}: expected a name of its own: {exposed!r} "
                    f"belongs to {owner.type}.{owner.name} of {origins[owner.name]}"
                )
    return occupied
