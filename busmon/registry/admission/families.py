"""The fleet's metric families: what the catalogue says, unless a family was written differently before.

A family is frozen when its first series is made: its definition is appended to `families.jsonl` in the registry
directory under a lock, and from then on it is the same for every process and after every restart, since files that
hold its series can't change their meaning; when the last series has been removed, it is let go. Unknown metrics are
taken up in the same way, within a budget for the whole fleet.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import orjson

from busmon import files
from busmon.catalogue.catalogue import Catalogue
from busmon.catalogue.family import Family, default_ttl_seconds
from busmon.catalogue.mapping import Mappings
from busmon.errors import AdoptionError, RegistryError
from busmon.reasons import SampleReason
from busmon.registry.admission.principal import NOBODY, Principal
from busmon.registry.storage import disk

LEAST_SHARE = 20
"""Metrics that every principal may have taken up, while there is room for any."""

MAX_NAMED = 1000
"""Principals whose refusals are kept until somebody takes note of them."""

FILE_NAME = "families.jsonl"


class Families:
    """One process's view of the families of a registry directory.

    Attributes:
        generation: changes whenever another family is written, or one is let go.
        unadopted: why a metric of a principal wasn't taken up, the first of each, until somebody takes note of it.
    """

    def __init__(self, registry_dir: Path, catalogue: Catalogue, max_adopted: int) -> None:
        self._path = registry_dir / FILE_NAME
        self._catalogue = catalogue
        self.max_adopted = max_adopted
        self.unadopted: dict[Principal, str] = {}
        self._frozen: dict[str, Family] = {}
        self._owners: dict[str, Principal] = {}
        self._held: Counter[Principal] = Counter()
        self._occupied: dict[str, str] = {}
        self._read_bytes = 0
        self._is_detached = False
        self.generation = 0
        self.refresh()

    def get(self, name: str) -> Family | None:
        """Return the family of this name, frozen or in the catalogue; None for a metric that nobody has stated."""
        return self._frozen.get(name) or self._catalogue.families.get(name)

    def is_adopted(self, name: str) -> bool:
        """Return whether the family was written and is in no catalogue."""
        return name in self._owners

    def restate(self, family: Family) -> Family:
        """Return the family as the catalogue has it today, or itself: for members that no written series depends on."""
        return self._catalogue.families.get(family.name, family)

    @property
    def mappings(self) -> Mappings:
        """Return the catalogue's rules for names of other formats."""
        return self._catalogue.mappings

    def frozen(self) -> Iterator[Family]:
        """Yield every family that has been written."""
        yield from self._frozen.values()

    def refresh(self) -> bool:
        """Read what other processes have frozen since; whether there was anything.

        Raises:
            RegistryError: the file isn't what busmon wrote.
        """
        try:
            if self._path.stat().st_size == self._read_bytes:
                return False
            with os.fdopen(files.open_file(self._path), "rb") as stream:
                stream.seek(self._read_bytes)
                added = stream.read()
        except FileNotFoundError:
            return False
        whole = added[: added.rfind(b"\n") + 1]
        try:
            for line in whole.splitlines():
                self._take(orjson.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RegistryError(f"{self._path}: expected a family on each line, as busmon writes it") from error
        self._read_bytes += len(whole)
        return bool(whole)

    @property
    def owners(self) -> Mapping[str, Principal]:
        """Return the principal that had each metric taken up that no catalogue names, by the metric's name."""
        return self._owners

    def count_held(self) -> Counter[Principal]:
        """Count the metrics that each principal has had taken up."""
        return self._held.copy()

    def freeze(self, family: Family, owner: Principal = NOBODY) -> Family:
        """Return the family as the fleet has it: this definition, unless another was written first.

        Raises:
            AdoptionError: another family that was written occupies one of its exposed names, or it is in no catalogue
                and the fleet's budget for such metrics, or the owner's share of it, is spent.
        """
        return self._frozen.get(family.name) or self._freeze(family, owner)

    def unfreeze(self, name: str) -> None:
        """Let the family's definition go: its last series is gone. The next to be written is by the catalogue.

        Raises:
            OSError: it can't be written down.
        """
        with self._lock() as descriptor:
            self.refresh()
            if name in self._frozen:
                self._append(descriptor, {"name": name, "dropped": True})

    def define(self, names: Iterable[str]) -> list[dict[str, object]]:
        """Return the definitions of written families, for `take_over`."""
        return [
            _definition(family, self._owners.get(name))
            for name in sorted(names)
            if (family := self._frozen.get(name)) is not None
        ]

    def take_over(self, definitions: Iterable[dict[str, object]]) -> None:
        """Take over families as another host has written them, in the place of other ones of the same names.

        Raises:
            OSError: a definition can't be written down.
        """
        with self._lock() as descriptor:
            self.refresh()
            for definition in definitions:
                name = str(definition["name"])
                written = self._frozen.get(name)
                if written is not None and _definition(written, self._owners.get(name)) != _listless(definition):
                    self._append(descriptor, {"name": name, "dropped": True})
                    written = None
                if written is None:
                    self._append(descriptor, definition)

    def propose(  # noqa: PLR0913 - all that a sample can state of its metric
        self,
        name: str,
        type_: str,
        labelnames: Sequence[str],
        merge: str,
        buckets: Sequence[float] | None,
        *,
        outlives_source: bool = False,
    ) -> Family:
        """Make a family for a metric that no catalogue names.

        Raises:
            AdoptionError: as of `Catalogue.adopt`.
        """
        return self._catalogue.adopt(name, type_, labelnames, merge, buckets, outlives_source=outlives_source)

    def reload(self, catalogue: Catalogue) -> list[str]:
        """Follow a new catalogue, and return the families whose change is refused because they were written before."""
        self._catalogue = catalogue
        return self.list_refused()

    def list_refused(self) -> list[str]:
        """Return the catalogue's families that were written otherwise, or whose names a written one occupies."""
        return sorted(name for name, family in self._catalogue.families.items() if self._is_refused(family))

    def detach(self) -> None:
        """Write nothing from here on, in a forked child that only tries a body."""
        self._is_detached = True

    def flush(self) -> None:
        """Have the definitions on the disk, so that they outlast a power cut as the series do.

        Raises:
            OSError: the disk fails.
        """
        with self._lock() as descriptor:
            os.fsync(descriptor)

    def _is_refused(self, family: Family) -> bool:
        written = self._frozen.get(family.name)
        if written is not None:
            return meaning(written) != meaning(family)
        return any(exposed in self._occupied for exposed in family.exposed)

    def _freeze(self, family: Family, owner: Principal) -> Family:
        adopted = family.name not in self._catalogue.families
        if adopted:
            self.require_share(family.name, owner)  # before the lock, which a flood of names would hold
        with self._lock() as descriptor:
            self.refresh()
            if family.name in self._frozen:
                return self._frozen[family.name]
            self._require_name(family)
            if adopted:
                self.require_share(family.name, owner)
            self._append(descriptor, _definition(family, owner if adopted else None))
        return family

    def _append(self, descriptor: int, definition: Mapping[str, object]) -> None:
        line = orjson.dumps(definition) + b"\n"
        disk.write(descriptor, line, self._read_bytes)
        if self._is_detached:
            self._take(orjson.loads(line))
            return
        if os.fstat(descriptor).st_size > self._read_bytes + len(line):  # else it would wait for the disk in vain
            os.ftruncate(descriptor, self._read_bytes + len(line))
        self.refresh()

    def _require_name(self, family: Family) -> None:
        for exposed in family.exposed:
            if exposed in self._occupied:
                raise AdoptionError(
                    SampleReason.NAME_CLASH, f"{family.name!r}: {self._occupied[exposed]!r} occupies {exposed!r}"
                )

    def require_share(self, name: str, owner: Principal) -> None:
        """Check that the owner may have another metric taken up: at most as many as are left for all others.

        Raises:
            AdoptionError: `family_budget`.
        """
        free, mine = self.max_adopted - len(self._owners), self._held[owner]
        if free > 0 and mine < max(LEAST_SHARE, free):
            return
        detail = f"{len(self._owners)} of {self.max_adopted} metrics are taken up, {mine} of them by {owner}"
        if owner not in self.unadopted and len(self.unadopted) < MAX_NAMED:
            (greediest, most), *_ = self._held.most_common(1) or [(owner, mine)]
            self.unadopted[owner] = f"{name!r}: {detail}, and most, {most}, by {greediest}"
        raise AdoptionError(SampleReason.FAMILY_BUDGET, f"{name!r}: {detail}")

    @contextmanager
    def _lock(self) -> Iterator[int]:
        """Hold the log's lock; in a detached copy, a log in memory that nobody else has."""
        if not self._is_detached:
            with files.hold_lock(self._path) as descriptor:
                yield descriptor
            return
        descriptor = os.memfd_create(FILE_NAME)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _take(self, definition: dict[str, object]) -> None:
        self.generation += 1
        if definition.get("dropped"):
            self._let_go(str(definition["name"]))
            return
        adopted, owner = definition.pop("adopted"), definition.pop("owner", NOBODY)
        tuples = {key: tuple(value) for key, value in definition.items() if isinstance(value, list)}
        family = Family(**{**definition, **tuples})  # type: ignore[arg-type]
        ttl_seconds = default_ttl_seconds(family.type, outlives_source=family.outlives_source)
        family = replace(family, ttl_seconds=ttl_seconds)
        self._frozen[family.name] = family
        self._occupied |= dict.fromkeys(family.exposed, family.name)
        if adopted:
            self._owners[family.name] = Principal(*owner)  # type: ignore[misc]  # two texts, as written below
            self._held[self._owners[family.name]] += 1

    def _let_go(self, name: str) -> None:
        family = self._frozen.pop(name, None)
        if owner := self._owners.pop(name, None):
            self._held[owner] -= 1
            self._held += Counter()  # whose last is gone is forgotten
        for exposed in family.exposed if family else ():
            self._occupied.pop(exposed, None)


def meaning(family: Family) -> tuple[object, ...]:
    """Return what the series in the files depend on; help and enumerated values may change."""
    return family.type, family.labelnames, family.buckets, family.merge, family.outlives_source


def _listless(definition: Mapping[str, object]) -> dict[str, object]:
    """Return a definition that was JSON as it was before: with tuples, but for the owner."""
    return {
        key: tuple(value) if isinstance(value, list) and key != "owner" else value for key, value in definition.items()
    }


def _definition(family: Family, owner: Principal | None) -> dict[str, object]:
    return {
        "name": family.name,
        "type": family.type,
        "help": family.help,
        "labelnames": family.labelnames,
        "buckets": family.buckets,
        "quantiles": family.quantiles,
        "merge": family.merge,
        "outlives_source": family.outlives_source,
        "internal": family.internal,
        "adopted": owner is not None,
        **({} if owner is None else {"owner": list(owner)}),
    }
