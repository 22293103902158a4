"""The position in the shard's log that a replica's files have reached, and whether a worker may go on from there.

The journal keeps the position with each record. The files are as they were left while the machine runs, whatever
happened to the worker. After a loss of power they may not be: then the replica is built again from the log. One thread.
"""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson

from busmon import files
from busmon.errors import RegistryError
from busmon.registry.admission.families import FILE_NAME as FAMILIES
from busmon.registry.series.columns import COLUMNS, file_name
from busmon.registry.shard.replica import mark_path, require_replica, wipe
from busmon.registry.storage.journal import Journal
from busmon.registry.storage.values import FIRST_ENTRY, read_used_bytes
from busmon.replication.counting import Place, Position
from busmon.typed import check_types

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_KEY = b',"position":'


def find_position(directory: Path, number: int) -> Position | None:
    """Return the position that a replica's files have reached; None if they must be built again."""
    try:
        boot_id = _read_boot_id()
        if not boot_id or mark_path(directory, number).read_text() != boot_id:
            return None
        with closing(Journal.open(directory / f"shard{number}.journal", writable=False)) as journal:
            told: dict[str, Any] | None = orjson.loads(journal.read_last()).get("position")
        if told is None or not _has_keys(directory, number, told.pop("used")):
            return None
        return check_types(Position(check_types(Place(**told.pop("place"))), **told))
    except (OSError, RegistryError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _has_keys(directory: Path, number: int, used: Mapping[str, int]) -> bool:
    """Return whether the files have the keys of the last record, and none of a record that was being applied.

    Keys are of no use without the families that they belong to.
    """
    if used and not (directory / FAMILIES).exists():
        return False
    found = {name: read_used_bytes(directory / file_name(name, number)) for name in COLUMNS}
    return all(max(size, FIRST_ENTRY) == used.get(name, FIRST_ENTRY) for name, size in found.items())


def with_position(payload: bytes, position: Position | None, used: Mapping[str, int]) -> bytes:
    """Return the payload of a journal's record with the position that the files have once they have the record.

    Args:
        payload: the record's, a JSON object.
        position: None if the files have no position: something that isn't a record changes them.
        used: the used bytes of each value file.
    """
    told = b"null" if position is None else orjson.dumps(position)[:-1] + b',"used":' + orjson.dumps(used) + b"}"
    return payload[:-1] + _KEY + told + b"}"


def begin(directory: Path, number: int) -> None:
    """Delete the files of a shard's former replica in this directory, and mark the directory as one of replicas.

    Raises:
        RegistryError: the files are of a fleet without replication: they aren't in the log.
        OSError: a file can't be deleted or made.
    """
    require_replica(directory, number)
    mark = mark_path(directory, number)
    if not mark.exists():
        files.replace(mark, b"")
    wipe(directory, number)
    files.replace(mark, _read_boot_id().encode())


def _read_boot_id() -> str:
    """Return the id of the machine's present run; empty if it can't be told."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
