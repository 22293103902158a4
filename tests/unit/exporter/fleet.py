"""An invented fleet, as its status files would tell it."""

from dataclasses import replace

from busmon.status import FleetStatus, ReplicaStatus, ShardStatus, SupervisorStatus, WorkerStatus

NOW = 1_763_794_800.0


def shard(number: int, state: str = "consuming", cause: str = "", depth: int | None = 0) -> ShardStatus:
    return ShardStatus(number, f"telemetry.fold.{number}", state, cause, depth, last_commit_at=NOW - 0.4)


def replicated(number: int, state: str = "owning", owner: str = "host-a", cause: str = "") -> ShardStatus:
    """A shard with a replica on this host, `host-a`, that is 1.5 s behind; the broker delivers to an owner."""
    lag = None if state == "reading" else 1.5
    replica = ReplicaStatus(state, cause, 41, 40, "d", 3, owner, lag_seconds=lag, log_bytes=600, log_limit_bytes=1000)
    return replace(shard(number), replica=replica, is_served=state == "owning")


def worker(number: int, *shards: ShardStatus, beat_age: float = 0.5, up_for: float = 100.0) -> WorkerStatus:
    return WorkerStatus(number, 4000 + number, NOW - up_for, NOW - beat_age, list(shards))


def supervisor(beat_age: float = 0.5, up_for: float = 100.0, workers: int = 2) -> SupervisorStatus:
    return SupervisorStatus(3999, NOW - up_for, workers, NOW - beat_age)


def healthy() -> FleetStatus:
    return FleetStatus(supervisor(), (worker(0, shard(0), shard(2)), worker(1, shard(1), shard(3))))
