"""The status of the fleet's processes, for one another: a small JSON file each, `<registry>/status/<process>.json`.

A process writes its own file only, whole and by rename, once a second and at each change of state; a file whose
`beat_at` is old belongs to a process that stopped or hangs. Readers (supervisor, exporter) never write another's. Times
are seconds since the epoch.
"""

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from busmon import files
from busmon.typed import check_types

SUPERVISOR = "supervisor"

MAX_BYTES = 1 << 20
"""Of one file; a worker that owns 256 shards writes a twentieth of it."""


class ConsumerState(StrEnum):
    """The states of a shard's queue and its consumer.

    `OPENING` comes first: the worker reads the shard's files and finishes a killed worker's commits. `SUSPENDED` is a
    consumer that its worker holds back. `SILENT` is what an exporter says of a shard whose worker stopped beating: what
    the worker last said may no longer hold.
    """

    OPENING = "opening"
    CONNECTING = "connecting"
    CONSUMING = "consuming"
    STANDBY = "standby"
    BLOCKED = "blocked"
    CANCELLED = "cancelled"
    CLOSED = "closed"
    MISSING = "missing"
    FAILING = "failing"
    DRAINING = "draining"
    SILENT = "silent"
    SUSPENDED = "suspended"


@dataclass(slots=True)
class ReplicaStatus:
    """One host's replica of a shard, as the worker that follows the shard's log sees it.

    Attributes:
        state: `reading` (not yet at the log's end), `following`, `claiming`, `owning`, or `interrupted`.
        cause: why it is reading or interrupted, in words; empty otherwise.
        offset: the log's offset of the last entry that was read; -1 before the first.
        number: the number of the last record that counts.
        digest: the digest of that record and of all before it.
        epoch: the current owner's; 0 while the shard never had an owner.
        owner_host: the current owner's host; empty while the shard never had an owner.
        lag_seconds: for how long the replica may lack records; None until it was at the log's end.
        log_bytes: the bytes that were read since the last snapshot.
        log_limit_bytes: the bytes that RabbitMQ keeps of the log in any case.
        clock_ahead_seconds: by how much this host's clock is ahead of the owner's, whose times the replica has; None
            until a record of the owner was read.
    """

    state: str
    cause: str = ""
    offset: int = -1
    number: int = 0
    digest: str = ""
    epoch: int = 0
    owner_host: str = ""
    lag_seconds: float | None = None
    log_bytes: int = 0
    log_limit_bytes: int = 0
    clock_ahead_seconds: float | None = None


@dataclass(slots=True)
class ShardStatus:
    """One shard as its owner sees it.

    Attributes:
        state: `opening`, `connecting`, `consuming`, `standby`, `blocked`, `cancelled`, `closed`, `missing` (its queue),
            `failing` (its files) or `draining`.
        cause: why it isn't consuming, in words; empty when it is.
        queue_depth: messages that are not committed, in its queue and in the worker's prefetch; None where unknown.
        waiting_seconds: for how long messages have waited while none was committed; None where unknown.
        is_served: the broker has delivered since the queue is consumed from, and within `presence_ttl_seconds`.
        replica: the host's replica of the shard; None without replication.
    """

    shard: int
    queue: str
    state: str = ConsumerState.CONNECTING
    cause: str = ""
    queue_depth: int | None = None
    last_commit_at: float | None = None
    waiting_seconds: float | None = None
    is_served: bool = False
    replica: ReplicaStatus | None = None


@dataclass(slots=True)
class WorkerStatus:
    """One worker process.

    Attributes:
        worker: its number in the fleet.
        reconnects: connections and channels opened again, by cause.
        forwarded: envelopes sent on to their shards that had waited for the ring.
        obstacles: what is wrong on the way to the shards' queues, a line each.
        broker: where it connects to, as `HOST:PORT`.
        has_rivals: another consumer is registered where each fleet has one.
        rivals: says so in a line, if it is certainly another fleet; empty if not.
        quarantined: bodies in the quarantine, as the owner of shard 0 sees them; None where unknown.
    """

    worker: int
    pid: int = field(default_factory=os.getpid)
    started_at: float = field(default_factory=time.time)
    beat_at: float = 0.0
    shards: list[ShardStatus] = field(default_factory=list)
    reconnects: dict[str, int] = field(default_factory=dict)
    forwarded: int = 0
    obstacles: list[str] = field(default_factory=list)
    broker: str = ""
    has_rivals: bool = False
    rivals: str = ""
    quarantined: int | None = None

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Return the status that `asdict` made these fields of.

        Raises:
            TypeError: they are another's.
        """
        return check_types(cls(**{**fields, "shards": [_shard_from_json(shard) for shard in fields["shards"]]}))

    @property
    def process(self) -> str:
        """Return the name of its status file."""
        return f"worker-{self.worker}"


def _shard_from_json(fields: Mapping[str, Any]) -> ShardStatus:
    shard = ShardStatus(**fields)
    replica: Any = shard.replica
    if replica is not None:
        shard.replica = check_types(ReplicaStatus(**replica))
    return check_types(shard)


@dataclass(slots=True)
class SupervisorStatus:
    """The supervisor.

    Attributes:
        workers: how many it keeps running.
        restarts: by worker number, or `exporter`, how often the process died and was replaced.
        config_reloads: how often the catalogue was read again, by result, `success` or `failure`.
        refusing: processes that last ended of how they are set up, and are tried again.
        stopping: it ends the fleet in order.
    """

    pid: int
    started_at: float
    workers: int
    beat_at: float = 0.0
    restarts: dict[str, int] = field(default_factory=dict)
    config_reloads: dict[str, int] = field(default_factory=dict)
    refusing: list[str] = field(default_factory=list)
    stopping: bool = False

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Return the status that `asdict` made these fields of.

        Raises:
            TypeError: they are another's.
        """
        return check_types(cls(**fields))

    @property
    def process(self) -> str:
        """Return the name of its status file."""
        return SUPERVISOR


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """All status files of one registry directory.

    Attributes:
        skipped: files that were left out, with reasons.
        shardless: the registry directory, if no worker has ever opened a shard there.
    """

    supervisor: SupervisorStatus | None
    workers: tuple[WorkerStatus, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)
    shardless: Path | None = None


def write(registry_dir: Path, status: WorkerStatus | SupervisorStatus) -> None:
    """Replace the process's status file, so that no reader ever sees half of one.

    Raises:
        OSError: it can't be written, for a full disk for instance; the file that was there stays.
    """
    directory = registry_dir / "status"
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / f"{status.process}.json"
    files.replace(path, json.dumps(asdict(status)).encode())


def remove(registry_dir: Path, status: WorkerStatus | SupervisorStatus) -> None:
    """Take the process's status file away: it ended in order."""
    (registry_dir / "status" / f"{status.process}.json").unlink(missing_ok=True)


def clear_workers(registry_dir: Path) -> None:
    """Remove the files that killed workers left, whatever they contain."""
    for path in (registry_dir / "status").glob("worker-*.json"):
        with suppress(OSError):
            path.unlink()


def read(registry_dir: Path) -> FleetStatus:
    """Return what every process of the fleet last said; what can't be understood is left out and named."""
    found: list[WorkerStatus | SupervisorStatus] = []
    skipped = {}
    for path in sorted((registry_dir / "status").glob("*.json")):
        try:
            found.append(_status(path))
        except FileNotFoundError:
            continue  # Its process has just ended.
        except OSError as error:
            skipped[_name(path)] = f"it can't be read: {error.strerror}"
        except (ValueError, TypeError, KeyError, RecursionError):
            skipped[_name(path)] = "it isn't as a process of this version writes it"
    supervisor = next((status for status in found if isinstance(status, SupervisorStatus)), None)
    workers = (status for status in found if isinstance(status, WorkerStatus))
    shardless = None if any(registry_dir.glob("shard*.journal")) else registry_dir
    return FleetStatus(supervisor, tuple(sorted(workers, key=lambda status: status.worker)), skipped, shardless)


def _status(path: Path) -> WorkerStatus | SupervisorStatus:
    kind = SupervisorStatus if path.stem == SUPERVISOR else WorkerStatus
    status = kind.from_json(json.loads(files.content(path, MAX_BYTES)))
    if status.process != path.stem:
        raise ValueError("another process's")
    return status


def _name(path: Path) -> str:
    """Return a file's name as text, which not every file's name is."""
    return f"status/{path.name.encode(errors='replace').decode()}"
