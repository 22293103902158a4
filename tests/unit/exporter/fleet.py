"""An invented fleet, as its status files would tell it."""

from busmon.status import FleetStatus, ShardStatus, SupervisorStatus, WorkerStatus

NOW = 1_763_794_800.0


def shard(number: int, state: str = "consuming", cause: str = "", depth: int | None = 0) -> ShardStatus:
    return ShardStatus(number, f"telemetry.fold.{number}", state, cause, depth, last_commit_at=NOW - 0.4)


def worker(number: int, *shards: ShardStatus, beat_age: float = 0.5, up_for: float = 100.0) -> WorkerStatus:
    return WorkerStatus(number, 4000 + number, NOW - up_for, NOW - beat_age, list(shards))


def supervisor(beat_age: float = 0.5, up_for: float = 100.0, workers: int = 2) -> SupervisorStatus:
    return SupervisorStatus(3999, NOW - up_for, workers, NOW - beat_age)


def healthy() -> FleetStatus:
    return FleetStatus(supervisor(), (worker(0, shard(0), shard(2)), worker(1, shard(1), shard(3))))
