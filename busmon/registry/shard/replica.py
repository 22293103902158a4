"""The parts of a shard's state in a log: keys, removed series, snapshots, and a digest that replicas compare.

Pure but for the files; one thread.
"""

from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson

from busmon.errors import LogBrokenError, RegistryError
from busmon.registry.admission.admission import Admission
from busmon.registry.admission.families import Families
from busmon.registry.series.columns import COLUMNS, file_name
from busmon.registry.shard import restoring
from busmon.registry.shard.state import ShardState
from busmon.registry.storage.compaction import DRAFT_SUFFIX, Doomed
from busmon.registry.storage.journal import Journal
from busmon.registry.storage.values import FIRST_ENTRY, Extent, write_file

_DIGEST_BYTES = 16


def take_keys(state: ShardState, families: Families, keys: Mapping[str, list[str]]) -> None:
    """Append a record's keys to the value files, and take over their series.

    Raises:
        OSError: the disk has no room for the keys.
        LogBrokenError: a key isn't as busmon writes it.
    """
    for name, texts in keys.items():
        column, encoded = state.files.columns[name], [text.encode() for text in texts]
        file = state.files.values.get(name) or state.files.open_values(name)
        first, known = column.restore(encoded, file.append(encoded)), restoring.families_of(families, name)
        try:
            for cell, key in enumerate(encoded, first):
                restoring.restore_key(state.fold, known, name, key, cell)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise LogBrokenError(f"a record of the log has a key that busmon doesn't write: {key!r}") from error
    if keys:
        state.files.note_extents()


# -- removals ---------------------------------------------------------------------------------------------------------


def dump_doomed(doomed: Doomed) -> dict[str, list[list[tuple[str, str]]]]:
    """Return removed series as JSON-ready values."""
    return {name: sorted(sorted(series) for series in doomed[name]) for name in sorted(doomed)}


def load_doomed(dumped: Mapping[str, Any]) -> Doomed:
    """Return what `dump_doomed` was given."""
    return {name: {frozenset((label, value) for label, value in series) for series in dumped[name]} for name in dumped}


# -- the whole state --------------------------------------------------------------------------------------------------


def dump(state: ShardState, families: Families, admission: Admission) -> bytes:
    """Return the whole state of a shard without an open batch."""
    told = {name for name, group in state.fold.groups.items() if group.cells}
    columns = {}
    for name, file in state.files.values.items():
        entries, doubles = [*file.entries()], file.doubles
        columns[name] = {
            "generation": file.generation,
            "keys": [key.decode() for key, _ in entries],
            "values": [doubles[slot] for _, slot in entries],
            "times": [doubles[slot + 1] for _, slot in entries],
        }
    return orjson.dumps(
        {
            "digest": digest_of(state),
            "state": orjson.loads(state.snapshot()),
            "columns": columns,
            "families": families.define(told),
            "places": admission.dump_places(told),
        }
    )


def lay_down(directory: Path, number: int, snapshot: Mapping[str, Any]) -> None:
    """Write a shard's files as a snapshot has them; a shard of this number is opened afterwards.

    Raises:
        OSError: the disk has no room for the files.
    """
    wipe(directory, number)
    extents = dict.fromkeys(COLUMNS, Extent())
    for name, column in snapshot["columns"].items():
        path = directory / file_name(name, number)
        keys = [key.encode() for key in column["keys"]]
        entries = [*zip(keys, column["values"], column["times"], strict=True)]
        _, extents[name] = write_file(path, entries, column["generation"], fsync=False)
    journal = directory / f"shard{number}.journal"
    Journal.create(journal, orjson.dumps(snapshot["state"]), [*extents.values()], fsync=False).close()


def require_kind(directory: Path, shards: int, *, are_replicas: bool) -> None:
    """Require that a directory has no files of the other kind of fleet; an empty directory serves both.

    Raises:
        RegistryError: a replicated fleet would replace files that aren't in the log, or a fleet without replication
            would count on in replicas, which may lack records.
    """
    for number in range(shards):
        if are_replicas:
            require_replica(directory, number)
        elif mark_path(directory, number).exists():
            raise RegistryError(
                f"{directory} has replicas of a replicated fleet, but replication is off: set "
                "BUSMON_REPLICATION=stream, or name the directory that `busmon registry from-log` made"
            )


def mark_path(directory: Path, number: int) -> Path:
    """Return the path of the file that marks a shard's files as a replica."""
    return directory / f"shard{number}.replica"


def require_replica(directory: Path, number: int) -> None:
    """Require that a shard's files are those of a replica, or that there are none.

    Raises:
        RegistryError: they are of a fleet without replication.
    """
    if not mark_path(directory, number).exists() and (directory / f"shard{number}.journal").exists():
        raise RegistryError(
            f"{directory} has the files of shard {number} of a fleet without replication, which a replica would "
            "replace: run `busmon registry into-log` first, then name an empty directory"
        )


def wipe(directory: Path, number: int) -> None:
    """Delete a shard's value files and journal.

    Raises:
        OSError: a file can't be deleted.
    """
    (directory / f"shard{number}.journal").unlink(missing_ok=True)
    for column in COLUMNS:
        path = directory / file_name(column, number)
        path.unlink(missing_ok=True)
        path.with_suffix(DRAFT_SUFFIX).unlink(missing_ok=True)


def digest_of(state: ShardState) -> str:
    """Return a digest of all that a shard has counted and will decide by; replicas of one state have the same."""
    digest = blake2b(digest_size=_DIGEST_BYTES)
    for name in COLUMNS:
        file = state.files.values.get(name)
        if file is not None and file.used > FIRST_ENTRY:
            digest.update(f"{name} {file.generation} ".encode())
            digest.update(file.content())
    told = orjson.loads(state.snapshot())
    told.pop("generations")
    told["shares"] = {name: sorted(shares) for name, shares in told["shares"].items() if shares}
    digest.update(orjson.dumps(told, option=orjson.OPT_SORT_KEYS))
    return digest.hexdigest()
