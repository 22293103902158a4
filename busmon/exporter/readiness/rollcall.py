"""The roll call: which worker of the fleet answers, and where each shard is, as of one moment.

Pure: a `FleetStatus` and the time go in. Health, own metrics and the overview are made of the same roll call, so they
can't disagree. A worker counts as up while its status file's beat is younger than `BEAT_LIMIT_SECONDS`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from busmon.plurals import ago
from busmon.status import (
    ConsumerState,
    FleetStatus,
    ReplicaStatus,
    ShardStatus,
    SupervisorStatus,
    WorkerStatus,
)

BEAT_LIMIT_SECONDS = 8.0
"""A process beats once a second; one that missed eight has stopped or hangs, and whoever asks each second knows
within ten."""

SILENT = ConsumerState.SILENT
"""The state of a shard whose worker stopped beating: what that worker last said is no longer known to hold."""

CONNECTING = ConsumerState.CONNECTING
"""The state of a shard whose worker has no connection to the broker."""

UNSERVED = "nothing is delivered here while another consumer is registered"
"""Why a shard stands by that is consumed from."""

CONSUMING = ConsumerState.CONSUMING
"""The state of a shard that the broker serves to its worker, if the worker can tell."""

STANDBY = ConsumerState.STANDBY
"""The state of a shard that another fleet is served, or may be: its worker takes over when the other fleet goes."""

UNCONNECTED = frozenset({ConsumerState.OPENING, CONNECTING, SILENT})
"""The states of a shard whose worker holds no connection to the broker, or isn't known to."""

READING, INTERRUPTED = "reading", "interrupted"
"""The states of a replica that lacks records: it isn't at its log's end, or can't read its log."""

REPLICA_STATES = (READING, "following", "claiming", "owning", INTERRUPTED)
"""Every state that a replica can be in."""

STATES = tuple(state for state in ConsumerState if state is not ConsumerState.SUSPENDED)
"""Every state a shard can be in."""


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """One worker, with ages in seconds."""

    worker: int
    pid: int
    up: bool
    uptime_seconds: float
    beat_age_seconds: float
    restarts: int
    reconnects: dict[str, int]
    forwarded: int
    obstacles: list[str]
    shards: list[int]
    broker: str


@dataclass(frozen=True, slots=True)
class ReplicaRow:
    """This host's replica of one shard.

    Attributes:
        state: one of `REPLICA_STATES`.
        cause: the reason why it isn't following or owning; empty otherwise.
        owner: the host that owns the shard, as the replica knows it; empty while there was none.
        lag_seconds: the time for which the replica may lack records; None until it was at the log's end.
        log_bytes: the bytes of the log since the last snapshot.
        log_limit_bytes: the bytes that RabbitMQ keeps of the log in any case.
    """

    state: str
    cause: str
    owner: str
    lag_seconds: float | None
    log_bytes: int
    log_limit_bytes: int


@dataclass(frozen=True, slots=True)
class ShardRow:
    """One shard and its owner.

    Attributes:
        state: one of `STATES`.
        depth: messages that are not committed; None where unknown, as it is once the worker is silent.
        waiting_seconds: for how long messages have waited while none was committed; None where unknown, and while the
            broker may serve another fleet.
        last_commit_age_seconds: None before the first commit.
        replica: this host's replica of the shard; None without replication.
    """

    shard: int
    queue: str
    worker: int
    state: str
    cause: str
    depth: int | None
    last_commit_age_seconds: float | None
    waiting_seconds: float | None
    replica: ReplicaRow | None


@dataclass(frozen=True, slots=True)
class RollCall:
    """The processes that answered.

    Attributes:
        supervisor: what it last said; None where there is none.
        supervisor_up: it beats.
        starting: the supervisor began so recently that its workers may not have beaten yet.
        stopping: the supervisor ends its fleet in order.
        expected_workers: how many there are to be: the supervisor's number, else those that are known.
        shards: each once, by number.
        rivals: what a worker says of another fleet, in a line; empty if none does.
        quarantined: bodies in the quarantine; None where no worker that beats knows.
        skipped: status files that were left out, with reasons.
        shardless: the registry directory, if no worker has ever opened a shard there.
    """

    at: float
    supervisor: SupervisorStatus | None
    supervisor_up: bool
    starting: bool
    stopping: bool
    expected_workers: int
    workers: list[WorkerRow]
    shards: list[ShardRow]
    rivals: str
    quarantined: int | None
    skipped: Mapping[str, str]
    shardless: Path | None

    @property
    def missing_workers(self) -> int:
        """The number of workers without a status file: they have not started yet, or ended in order."""
        return max(0, self.expected_workers - len(self.workers))


def call(status: FleetStatus, now: float) -> RollCall:
    """Call the roll at `now` (seconds since the epoch)."""
    supervisor = status.supervisor
    supervisor_up = supervisor is not None and _beats(supervisor.beat_at, now)
    workers = [worker for worker in status.workers if not _is_left_over(worker, supervisor, now)]
    return RollCall(
        at=now,
        supervisor=supervisor,
        supervisor_up=supervisor_up,
        starting=supervisor is not None and supervisor_up and _beats(supervisor.started_at, now),
        stopping=supervisor is not None and supervisor_up and supervisor.stopping,
        expected_workers=supervisor.workers if supervisor else len(workers),
        workers=[_worker_row(worker, supervisor, now) for worker in workers],
        shards=_shard_rows(workers, now),
        rivals=next((worker.rivals for worker in workers if worker.rivals and _beats(worker.beat_at, now)), ""),
        quarantined=next(_count_quarantined(workers, now), None),
        skipped=status.skipped,
        shardless=status.shardless,
    )


def _beats(beat_at: float, now: float) -> bool:
    return now - beat_at <= BEAT_LIMIT_SECONDS


def _is_left_over(worker: WorkerStatus, supervisor: SupervisorStatus | None, now: float) -> bool:
    """Return True if this is the file of a killed fleet's worker, unknown to the present supervisor."""
    return supervisor is not None and not _beats(worker.beat_at, now) and worker.beat_at < supervisor.started_at


def _worker_row(worker: WorkerStatus, supervisor: SupervisorStatus | None, now: float) -> WorkerRow:
    return WorkerRow(
        worker=worker.worker,
        pid=worker.pid,
        up=_beats(worker.beat_at, now),
        uptime_seconds=max(0.0, now - worker.started_at),
        beat_age_seconds=max(0.0, now - worker.beat_at),
        restarts=supervisor.restarts.get(str(worker.worker), 0) if supervisor else 0,
        reconnects=dict(worker.reconnects),
        forwarded=worker.forwarded,
        obstacles=list(worker.obstacles),
        shards=[shard.shard for shard in worker.shards],
        broker=worker.broker,
    )


def _count_quarantined(workers: Iterable[WorkerStatus], now: float) -> Iterator[int]:
    for worker in workers:
        if worker.quarantined is not None and _beats(worker.beat_at, now):
            yield worker.quarantined


def _shard_rows(workers: Iterable[WorkerStatus], now: float) -> list[ShardRow]:
    """Make one row a shard. Where a killed owner's file still claims the shard, the latest beat decides."""
    workers = [*workers]
    has_rivals = any(worker.has_rivals and _beats(worker.beat_at, now) for worker in workers)
    rows = {
        shard.shard: _shard_row(
            shard, worker, now, stands_by=has_rivals and shard.state == CONSUMING and not shard.is_served
        )
        for worker in sorted(workers, key=lambda worker: worker.beat_at)
        for shard in worker.shards
    }
    return [rows[shard] for shard in sorted(rows)]


def _shard_row(shard: ShardStatus, worker: WorkerStatus, now: float, *, stands_by: bool) -> ShardRow:
    up = _beats(worker.beat_at, now)
    state, cause = (STANDBY, _explain_standby(shard)) if stands_by else (shard.state, shard.cause)
    return ShardRow(
        shard=shard.shard,
        queue=shard.queue,
        worker=worker.worker,
        state=state if up else SILENT,
        cause=cause if up else f"worker {worker.worker} was last heard from {ago(now - worker.beat_at)}",
        depth=shard.queue_depth if up else None,
        waiting_seconds=shard.waiting_seconds if up and not stands_by else None,
        last_commit_age_seconds=None if shard.last_commit_at is None else max(0.0, now - shard.last_commit_at),
        replica=None if shard.replica is None else _replica_row(shard.replica, 0.0 if up else now - worker.beat_at),
    )


def _explain_standby(shard: ShardStatus) -> str:
    owner = shard.replica.owner_host if shard.replica else ""
    return f"host {owner} owns the shard" if owner else UNSERVED


def _replica_row(replica: ReplicaStatus, silent_seconds: float) -> ReplicaRow:
    """Make the row of a replica; a replica ages while its worker is silent."""
    lag = replica.lag_seconds
    return ReplicaRow(
        state=replica.state,
        cause=replica.cause,
        owner=replica.owner_host,
        lag_seconds=None if lag is None else lag + silent_seconds,
        log_bytes=replica.log_bytes,
        log_limit_bytes=replica.log_limit_bytes,
    )
