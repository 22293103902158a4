"""The roll call: which worker of the fleet answers, and where each shard is, as of one moment.

Pure: a `FleetStatus` and the time go in. Health, own metrics and the overview are made of the same roll call, so they
can't disagree. A worker counts as up while its status file's beat is younger than `BEAT_LIMIT_SECONDS`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from busmon.plurals import ago
from busmon.status import FleetStatus, ShardStatus, SupervisorStatus, WorkerStatus

BEAT_LIMIT_SECONDS = 8.0
"""A process beats once a second; one that missed eight has stopped or hangs, and whoever asks each second knows
within ten."""

SILENT = "silent"
"""The state of a shard whose worker stopped beating: what that worker last said is no longer known to hold."""

CONNECTING = "connecting"
"""The state of a shard whose worker has no connection to the broker."""

UNCONNECTED = frozenset({CONNECTING, SILENT})
"""The states of a shard whose worker holds no connection to the broker, or isn't known to."""

STATES = ("connecting", "consuming", "blocked", "cancelled", "closed", "missing", "failing", "draining", SILENT)
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
class ShardRow:
    """One shard and its owner.

    Attributes:
        state: one of `STATES`.
        depth: messages that are not committed; None where unknown, as it is once the worker is silent.
        waiting_seconds: for how long messages have waited while none was committed; None where unknown, and while the
            broker may serve another fleet.
        last_commit_age_seconds: None before the first commit.
    """

    shard: int
    queue: str
    worker: int
    state: str
    cause: str
    depth: int | None
    last_commit_age_seconds: float | None
    waiting_seconds: float | None


@dataclass(frozen=True, slots=True)
class RollCall:
    """Who answered.

    Attributes:
        supervisor: what it last said; None where there is none.
        supervisor_up: it beats.
        starting: the supervisor began so recently that its workers may not have beaten yet.
        stopping: the supervisor ends its fleet in order.
        expected_workers: how many there are to be: the supervisor's number, else those that are known.
        shards: each once, by number.
        quarantined: bodies in the quarantine; None where no worker that beats knows.
        skipped: status files that were left out, with reasons.
    """

    at: float
    supervisor: SupervisorStatus | None
    supervisor_up: bool
    starting: bool
    stopping: bool
    expected_workers: int
    workers: list[WorkerRow]
    shards: list[ShardRow]
    quarantined: int | None
    skipped: Mapping[str, str]

    @property
    def missing_workers(self) -> int:
        """How many workers have no status file: they have not started yet, or ended in order."""
        return max(0, self.expected_workers - len(self.workers))


def call(status: FleetStatus, now: float) -> RollCall:
    """The roll call at `now` (seconds since the epoch)."""
    supervisor = status.supervisor
    supervisor_up = supervisor is not None and _beats(supervisor.beat_at, now)
    workers = [worker for worker in status.workers if not _left_over(worker, supervisor, now)]
    return RollCall(
        at=now,
        supervisor=supervisor,
        supervisor_up=supervisor_up,
        starting=supervisor is not None and supervisor_up and _beats(supervisor.started_at, now),
        stopping=supervisor is not None and supervisor_up and supervisor.stopping,
        expected_workers=supervisor.workers if supervisor else len(workers),
        workers=[_worker_row(worker, supervisor, now) for worker in workers],
        shards=_shard_rows(workers, now),
        quarantined=next(_quarantined(workers, now), None),
        skipped=status.skipped,
    )


def _beats(beat_at: float, now: float) -> bool:
    return now - beat_at <= BEAT_LIMIT_SECONDS


def _left_over(worker: WorkerStatus, supervisor: SupervisorStatus | None, now: float) -> bool:
    """Whether this is the file of a killed fleet's worker, which today's supervisor has nothing to do with."""
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


def _quarantined(workers: Iterable[WorkerStatus], now: float) -> Iterator[int]:
    for worker in workers:
        if worker.quarantined is not None and _beats(worker.beat_at, now):
            yield worker.quarantined


def _shard_rows(workers: Iterable[WorkerStatus], now: float) -> list[ShardRow]:
    """One row a shard: where a killed owner's file still claims it, the owner that beat last is believed."""
    workers = [*workers]
    has_rivals = any(worker.has_rivals for worker in workers)
    rows = {
        shard.shard: _shard_row(shard, worker, now, stands_by=has_rivals and not shard.is_served)
        for worker in sorted(workers, key=lambda worker: worker.beat_at)
        for shard in worker.shards
    }
    return [rows[shard] for shard in sorted(rows)]


def _shard_row(shard: ShardStatus, worker: WorkerStatus, now: float, *, stands_by: bool) -> ShardRow:
    up = _beats(worker.beat_at, now)
    return ShardRow(
        shard=shard.shard,
        queue=shard.queue,
        worker=worker.worker,
        state=shard.state if up else SILENT,
        cause=shard.cause if up else f"worker {worker.worker} was last heard from {ago(now - worker.beat_at)}",
        depth=shard.queue_depth if up else None,
        waiting_seconds=shard.waiting_seconds if up and not stands_by else None,
        last_commit_age_seconds=None if shard.last_commit_at is None else max(0.0, now - shard.last_commit_at),
    )
