"""The series in the shards' value files, and their last updates, read without any lock while their owners write.

A reading isn't of one moment, and a batch that is being committed may be missed; it is for what is judged by hours, and
for people. A file that can't be read is left out. Pure readings; any process.
"""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import orjson

from busmon import files
from busmon.catalogue.family import Family
from busmon.errors import RegistryError
from busmon.registry.admission.families import Families
from busmon.registry.admission.places import Places
from busmon.registry.series.columns import COLUMNS, column_of, file_name
from busmon.registry.storage.compaction import LabelSet
from busmon.registry.storage.values import contents, parse_entries

_MAX_LOCK_BYTES = 64


class SurveyedSeries(NamedTuple):
    """One series of one shard.

    Attributes:
        at: its last update, or a gauge's event time, in seconds since the epoch; 0 if it has none.
    """

    shard: int
    labels: LabelSet
    at: float


@dataclass(frozen=True, slots=True)
class SurveyedShard:
    """One shard's files.

    Attributes:
        owner: the process that holds its lock; None if it doesn't run.
        size_bytes: what its value files and its journal take.
        used_bytes: what entries and header take of its value files.
        committed_at: when the journal was last written, in seconds since the epoch; None without one.
    """

    shard: int
    owner: int | None
    size_bytes: int
    used_bytes: int
    committed_at: float | None


def shards(registry_dir: Path) -> list[int]:
    """Return the numbers of the shards that have been opened in the directory."""
    numbers = (path.stem.removeprefix("shard") for path in registry_dir.glob("shard*.journal"))
    return sorted(int(number) for number in numbers if number.isdecimal())


def shard_files(registry_dir: Path, shard: int) -> SurveyedShard:
    """Return what the shard's files are like."""
    size = used = 0
    for column in COLUMNS:
        path = registry_dir / file_name(column, shard)
        try:
            size, used = size + path.stat().st_size, used + contents(path)[1]
        except (OSError, RegistryError):
            continue
    journal = registry_dir / f"shard{shard}.journal"
    committed_at = journal.stat().st_mtime if journal.exists() else None
    size += journal.stat().st_size if journal.exists() else 0
    return SurveyedShard(shard, _owner(registry_dir / f"shard{shard}.lock"), size, used, committed_at)


def series(registry_dir: Path, families: Collection[Family]) -> dict[str, list[SurveyedSeries]]:
    """Return the series of each of these families in each shard, by the family's name."""
    found: dict[str, dict[tuple[int, LabelSet], float]] = {family.name: {} for family in families}
    names = {(column_of(family), family.metric_name.encode()): family.name for family in families}
    for shard in shards(registry_dir):
        for column in {column for column, _ in names}:
            for metric_name, key, at in _entries(registry_dir / file_name(column, shard)):
                if name := names.get((column, metric_name)):
                    place = shard, _labels(key)
                    found[name][place] = max(at, found[name].get(place, 0.0))
    return {name: [SurveyedSeries(*place, at) for place, at in places.items()] for name, places in found.items()}


class AgentUse(NamedTuple):
    """The room that an agent took: series in all shards, of metrics of its own and of label values that are its."""

    series: int
    metrics: int
    values: int


def count_taken(registry_dir: Path, families: Families, agent: str, user: str | None) -> AgentUse:
    """Count what an agent took.

    Raises:
        RegistryError: the log of places isn't what busmon wrote.
    """
    metrics = {name for name, owner in families.owners.items() if owner.matches(agent, user)}
    places = Places(registry_dir)
    values = [place for place, owner in places.owners.items() if owner.matches(agent, user)]
    places.close()
    theirs: dict[str, set[tuple[str, str]]] = {}
    for name, label, value in values:
        theirs.setdefault(name, set()).add((label, value))
    concerned = [family for family in families.frozen() if family.name in metrics or family.name in theirs]
    found = series(registry_dir, concerned)
    count = sum(
        name in metrics or not each.labels.isdisjoint(theirs[name]) for name, seen in found.items() for each in seen
    )
    return AgentUse(count, len(metrics), len(values))


def last_seen(registry_dir: Path, family: Family) -> dict[tuple[str, str], float]:
    """Return when each value of each label was last updated in any shard, in seconds since the epoch."""
    seen: dict[tuple[str, str], float] = {}
    for _, labels, at in series(registry_dir, [family])[family.name]:
        for item in labels:
            seen[item] = max(at, seen.get(item, 0.0))
    return seen


def _entries(path: Path) -> Iterator[tuple[bytes, bytes, float]]:
    """Yield the metric name, key and timestamp of each entry."""
    try:
        buffer, used = contents(path)
        doubles = memoryview(buffer)[: used // 8 * 8].cast("d")
        for key, slot in parse_entries(buffer, used):
            yield key[2 : key.find(b'"', 2)], key, doubles[slot + 1]
    except (OSError, RegistryError):
        return


def _labels(key: bytes) -> LabelSet:
    labels: dict[str, str] = orjson.loads(key)[2]
    labels.pop("le", None)
    return frozenset(labels.items())


def _owner(lock: Path) -> int | None:
    """Return the process that says it holds the lock, if it runs."""
    try:
        number = int(files.content(lock, _MAX_LOCK_BYTES))
        os.kill(number, 0)
    except PermissionError:
        return number
    except (OSError, ValueError):
        return None
    return number
