"""What the fleet's processes tell one another: one small JSON file each, `<registry>/status/<process>.json`.

A process writes its own file only, whole and by rename, once a second and at each change of state; a file whose
`beat_at` is old belongs to a process that stopped or hangs. Readers (supervisor, exporter) never write another's. Times
are seconds since the epoch.
"""

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, Self, TypeVar, get_args, get_origin

SUPERVISOR = "supervisor"

Status = TypeVar("Status", bound="WorkerStatus | SupervisorStatus | ShardStatus")


@dataclass(slots=True)
class ShardStatus:
    """One shard as its owner sees it.

    Attributes:
        state: `connecting`, `consuming`, `blocked`, `cancelled`, `closed`, `missing` (its queue), `failing` (its files)
            or `draining`.
        cause: why it isn't consuming, in words; empty when it is.
        queue_depth: messages ready in its queue, None where unknown.
    """

    shard: int
    queue: str
    state: str = "connecting"
    cause: str = ""
    queue_depth: int | None = None
    last_commit_at: float | None = None
    last_delivery_at: float | None = None


@dataclass(slots=True)
class WorkerStatus:
    """One worker process.

    Attributes:
        worker: its number in the fleet.
        reconnects: connections and channels opened again, by cause.
        forwarded: envelopes sent on to their shards that had waited for the ring.
        obstacles: what is wrong on the way to the shards' queues, a line each.
    """

    worker: int
    pid: int = field(default_factory=os.getpid)
    started_at: float = field(default_factory=time.time)
    beat_at: float = 0.0
    shards: list[ShardStatus] = field(default_factory=list)
    reconnects: dict[str, int] = field(default_factory=dict)
    forwarded: int = 0
    obstacles: list[str] = field(default_factory=list)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """The status that `asdict` made these fields of.

        Raises:
            TypeError: they are another's.
        """
        return _typed(cls(**{**fields, "shards": [_typed(ShardStatus(**shard)) for shard in fields["shards"]]}))

    @property
    def process(self) -> str:
        """The name of its status file."""
        return f"worker-{self.worker}"


@dataclass(slots=True)
class SupervisorStatus:
    """The supervisor.

    Attributes:
        workers: how many it keeps running.
        restarts: by worker number, or `exporter`, how often the process died and was replaced.
        config_reloads: how often the catalogue was read again, by result, `success` or `failure`.
    """

    pid: int
    started_at: float
    workers: int
    beat_at: float = 0.0
    restarts: dict[str, int] = field(default_factory=dict)
    config_reloads: dict[str, int] = field(default_factory=dict)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """The status that `asdict` made these fields of.

        Raises:
            TypeError: they are another's.
        """
        return _typed(cls(**fields))

    @property
    def process(self) -> str:
        """The name of its status file."""
        return SUPERVISOR


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """All status files of one registry directory, unreadable ones left out."""

    supervisor: SupervisorStatus | None
    workers: tuple[WorkerStatus, ...]


def write(registry_dir: Path, status: WorkerStatus | SupervisorStatus) -> None:
    """Replace the process's status file, so that no reader ever sees half of one.

    Raises:
        OSError: it can't be written, for a full disk for instance; the file that was there stays.
    """
    directory = registry_dir / "status"
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / f"{status.process}.json"
    draft = path.with_suffix(".tmp")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        json.dump(asdict(status), stream)
    draft.replace(path)


def remove(registry_dir: Path, status: WorkerStatus | SupervisorStatus) -> None:
    """Take the process's status file away: it ended in order."""
    (registry_dir / "status" / f"{status.process}.json").unlink(missing_ok=True)


def read(registry_dir: Path) -> FleetStatus:
    """What every process of the fleet last said."""
    found = list(_statuses(registry_dir / "status"))
    supervisor = next((status for status in found if isinstance(status, SupervisorStatus)), None)
    workers = (status for status in found if isinstance(status, WorkerStatus))
    return FleetStatus(supervisor, tuple(sorted(workers, key=lambda status: status.worker)))


def _statuses(directory: Path) -> Iterator[WorkerStatus | SupervisorStatus]:
    for path in sorted(directory.glob("*.json")):
        kind = SupervisorStatus if path.stem == SUPERVISOR else WorkerStatus
        try:
            yield kind.from_json(json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
            # Gone again, foreign, or of another version with other fields.
            continue


def _typed(status: Status) -> Status:
    """The status, if each of its fields has a value of the type that it is declared with.

    Raises:
        TypeError: one hasn't; whoever reckons with it would fail much later.
    """
    for each in fields(status):
        if not _is(getattr(status, each.name), each.type):
            raise TypeError(f"{each.name}: expected {each.type}")
    return status


def _is(value: object, declared: Any) -> bool:
    origin, parts = get_origin(declared) or declared, get_args(declared)
    if origin is UnionType:
        return any(_is(value, part) for part in parts)
    if origin is dict:
        return isinstance(value, dict) and all(
            _is(key, parts[0]) and _is(each, parts[1]) for key, each in value.items()
        )
    if origin is list:
        return isinstance(value, list) and all(_is(each, parts[0]) for each in value)
    if origin is float:
        return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]  # the first part says so
    return type(value) is origin
