"""Value files without the series that were removed: written as drafts, and put in place by a new journal.

Every rewriting of a file raises its *generation*, a number in the header's four bytes that prometheus_client leaves
unused. A draft `<column>_shard<k>.next` holds the live entries; then a new journal, whose snapshot says which
generation of each file its slots are of, takes the old one's place: that rename is the commit. Whoever opens the
shard puts the drafts that its journal names in the files' places and takes the others away. So a kill at any line
leaves all of it done or nothing. Only the shard's owner calls this.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from busmon.registry.series.columns import SKETCH
from busmon.registry.storage.damage import make_damage_error
from busmon.registry.storage.values import Extent, ValueFile, generation_of, write_file

DRAFT_SUFFIX = ".next"

LabelSet = frozenset[tuple[str, str]]
Doomed = Mapping[str, Collection[LabelSet]]
"""The series to remove: label names and values, by the metric's name as the files' keys have it."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A value file's next generation.

    Attributes:
        extent: what it has.
        moved: the new slot of each live entry, by its old one.
    """

    path: Path
    extent: Extent
    moved: Mapping[int, int] = field(repr=False)

    def discard(self) -> None:
        """Take it away again: the commit that it was for failed."""
        self.path.unlink(missing_ok=True)


def draft(file: ValueFile, doomed: Doomed, *, fsync: bool) -> Draft | None:
    """Write a file's next generation, without the doomed series; None if it has none of them.

    Raises:
        OSError: there is no room for it.
    """
    is_sketch = file.path.name.startswith(f"{SKETCH}_")
    entries = list(file.entries())
    live = [(key, slot) for key, slot in entries if not _is_doomed(key, doomed, is_sketch=is_sketch)]
    if len(live) == len(entries):
        return None
    path, generation = file.path.with_suffix(DRAFT_SUFFIX), file.generation + 1
    values = [(key, file.doubles[slot], file.doubles[slot + 1]) for key, slot in live]
    slots, extent = write_file(path, values, generation, fsync=fsync)
    return Draft(path, extent, dict(zip((slot for _, slot in live), slots, strict=True)))


def complete(paths: Mapping[str, Path], generations: Mapping[str, int]) -> None:
    """Put the drafts in place that the journal's snapshot counts on, and take away all others.

    Args:
        paths: each column's value file.
        generations: which one of each file the journal's slots are of.

    Raises:
        RegistryError: a file of that generation isn't there.
        OSError: a file can't be read or renamed.
    """
    for column, path in paths.items():
        wanted, draft = generations.get(column, 0), path.with_suffix(DRAFT_SUFFIX)
        if draft.is_file() and generation_of(draft) == wanted != generation_of(path):
            draft.replace(path)
        draft.unlink(missing_ok=True)
        if (column in generations or path.exists()) and (found := generation_of(path)) != wanted:
            fault = f"it is generation {found}, and the shard's journal counts on {wanted}"
            raise make_damage_error(
                path, fault if found >= 0 else "the file is gone, and the shard's journal counts on it"
            )


def _is_doomed(key: bytes, doomed: Doomed, *, is_sketch: bool) -> bool:
    """Return whether an entry belongs to a doomed series; most don't by their name alone."""
    name = key[2 : key.find(b'"', 2)].decode()
    if name not in doomed:
        return False
    parts: list[Any] = orjson.loads(key)
    labels: dict[str, str] = parts[1] if is_sketch else parts[2]
    labels.pop("le", None)
    return frozenset(labels.items()) in doomed[name]
