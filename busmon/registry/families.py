"""The fleet's metric families: what the catalogue says, unless a family was written differently before.

A family is frozen when its first series is made: its definition is appended to `families.jsonl` in the registry
directory under a lock, and from then on it is the same for every process and after every restart, since files that
hold its series can't change their meaning. Unknown metrics are taken up in the same way, within a budget for the
whole fleet.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import orjson

from busmon.catalogue.catalogue import Catalogue
from busmon.catalogue.family import HISTOGRAM, Family
from busmon.errors import AdoptionError, RegistryError
from busmon.registry import disk

FILE_NAME = "families.jsonl"


class Families:
    """One process's view of the families of a registry directory."""

    def __init__(self, registry_dir: Path, catalogue: Catalogue, max_adopted: int) -> None:
        self._path = registry_dir / FILE_NAME
        self._catalogue = catalogue
        self._max_adopted = max_adopted
        self._frozen: dict[str, Family] = {}
        self._adopted: set[str] = set()
        self._occupied: dict[str, str] = {}
        self._read_bytes = 0
        self.refresh()

    def get(self, name: str) -> Family | None:
        """The family of this name, frozen or in the catalogue; None for a metric that nobody has stated."""
        return self._frozen.get(name) or self._catalogue.families.get(name)

    def frozen(self) -> Iterator[Family]:
        """Every family that has been written."""
        yield from self._frozen.values()

    def refresh(self) -> bool:
        """Read what other processes have frozen since; whether there was anything.

        Raises:
            RegistryError: the file isn't what busmon wrote.
        """
        try:
            if self._path.stat().st_size == self._read_bytes:
                return False
            with self._path.open("rb") as stream:
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

    def freeze(self, family: Family) -> Family:
        """The family as the fleet has it: this definition, unless another was written first.

        Raises:
            AdoptionError: another family that was written occupies one of its exposed names, or it is in no catalogue
                and the fleet's budget for such metrics is spent.
        """
        return self._frozen.get(family.name) or self._freeze(family)

    def propose(self, name: str, type_: str, labelnames: Sequence[str], merge: str, buckets: Sequence[float]) -> Family:
        """A family for a metric that no catalogue names; a histogram with the bounds that its first sample has.

        Raises:
            AdoptionError: its name, type or labels aren't acceptable, or a family of the catalogue occupies its name.
        """
        family = self._catalogue.adopt(name, type_, labelnames, merge)
        return replace(family, buckets=tuple(buckets)) if type_ == HISTOGRAM and buckets else family

    def reload(self, catalogue: Catalogue) -> list[str]:
        """Follow a new catalogue, and name the families whose change is refused because they were written before."""
        self._catalogue = catalogue
        return self.refused()

    def refused(self) -> list[str]:
        """The catalogue's families that were written with another definition, or whose names a written one occupies."""
        return sorted(name for name, family in self._catalogue.families.items() if self._is_refused(family))

    def _is_refused(self, family: Family) -> bool:
        written = self._frozen.get(family.name)
        if written is not None:
            return _meaning(written) != _meaning(family)
        return any(exposed in self._occupied for exposed in family.exposed)

    def _freeze(self, family: Family) -> Family:
        with self._locked() as descriptor:
            self.refresh()
            if family.name in self._frozen:
                return self._frozen[family.name]
            adopted = family.name not in self._catalogue.families
            self._require_room(family, adopted=adopted)
            line = orjson.dumps(_definition(family, adopted=adopted)) + b"\n"
            disk.write(descriptor, line, self._read_bytes)
            os.ftruncate(descriptor, self._read_bytes + len(line))
            self.refresh()
        return family

    def _require_room(self, family: Family, *, adopted: bool) -> None:
        for exposed in family.exposed:
            if exposed in self._occupied:
                raise AdoptionError("name_clash", f"{family.name!r}: {self._occupied[exposed]!r} occupies {exposed!r}")
        if adopted and len(self._adopted) >= self._max_adopted:
            raise AdoptionError("family_budget", f"{family.name!r}: {self._max_adopted} metrics are taken up already")

    @contextmanager
    def _locked(self) -> Iterator[int]:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def _take(self, definition: dict[str, object]) -> None:
        adopted = definition.pop("adopted")
        tuples = {key: tuple(value) for key, value in definition.items() if isinstance(value, list)}
        family = Family(**{**definition, **tuples})  # type: ignore[arg-type]
        self._frozen[family.name] = family
        self._occupied |= dict.fromkeys(family.exposed, family.name)
        if adopted:
            self._adopted.add(family.name)


def _meaning(family: Family) -> tuple[object, ...]:
    """What the series in the files depend on; help and enumerated values may change."""
    return family.type, family.labelnames, family.buckets, family.merge


def _definition(family: Family, *, adopted: bool) -> dict[str, object]:
    return {
        "name": family.name,
        "type": family.type,
        "help": family.help,
        "labelnames": family.labelnames,
        "buckets": family.buckets,
        "quantiles": family.quantiles,
        "merge": family.merge,
        "internal": family.internal,
        "adopted": adopted,
    }
