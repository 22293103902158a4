"""Health: the liveness and readiness documents, made of a roll call and of what the checks found.

Pure. RabbitMQ's state is what the workers do, not what a probe of ours would find: a broker that answers while nobody
consumes doesn't make the service ready. A dependency that isn't configured is left out of the documents.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from busmon.exporter.checks.findings import Condition, Finding, Findings
from busmon.exporter.readiness.faults import Reason, broker_faults, obstacles, replica_faults, shard_faults
from busmon.exporter.readiness.rollcall import (
    BEAT_LIMIT_SECONDS,
    STANDBY,
    UNCONNECTED,
    ReplicaRow,
    RollCall,
    ShardRow,
)

Document = dict[str, Any]

RABBITMQ = "rabbitmq"

NOT_READY = "not_ready"

NOTHING_FOUND = Findings()

_WORDS = {"database_migration": ("pending", "complete"), "cache_warm": ("false", "true")}


def liveness(roll: RollCall, version: str, started_at: float) -> Document:
    """Build the `/health` document: `status` is `alive`, `stopping` or `dead`.

    Stopping means that the supervisor ends the fleet in order. Dead means that what counts has stopped: the supervisor,
    or every worker. An exporter that runs alone, with no status of a supervisor or worker in its registry directory, is
    alive when it answers: it serves what the files hold.

    Args:
        roll: the roll call.
        version: busmon's.
        started_at: when the exporter began; `uptime` is the supervisor's where there is one, in whole seconds.
    """
    began = roll.supervisor.started_at if roll.supervisor else started_at
    causes = list(_deaths(roll))
    document: Document = {
        "status": _liveness_word(roll, dead=bool(causes)),
        "timestamp": _timestamp(roll.at),
        "version": version,
        # No clock began before the epoch, whatever a status file says.
        "uptime": int(min(max(0.0, roll.at - began), roll.at)),
    }
    return document | ({"causes": causes} if causes else {})


def readiness(roll: RollCall, findings: Findings = NOTHING_FOUND) -> Document:
    """Build the `/ready` document: `status` is `ready`, `standby` or `not_ready`.

    Ready means that every worker consumes every shard that it owns, and every required dependency answers with what is
    required of it. Standby means the same but for shards that the broker may serve to another fleet. `degraded` says
    all that is wrong, also of what isn't required.
    """
    reasons = [*fleet_reasons(roll), *obstacles(roll), *_silences(roll), *_dependency_reasons(roll, findings)]
    return {
        "status": _status(roll, blocked=any(reason.blocks for reason in reasons)),
        "services": _services(roll, findings),
        "checks": _checks(roll, findings),
        "degraded": [reason.text for reason in reasons],
        "dependencies": _dependencies(roll, findings),
        "shards": _shards(roll),
        "resources": _resources(roll, findings),
    }


def _status(roll: RollCall, *, blocked: bool) -> str:
    if blocked:
        return NOT_READY
    # A replica that follows is this host's whole part in a shard that another host owns.
    return STANDBY if any(row.state == STANDBY and row.replica is None for row in roll.shards) else "ready"


def fleet_reasons(roll: RollCall) -> Iterator[Reason]:
    """Yield the reasons why the fleet itself doesn't count everything, or doesn't serve it."""
    if roll.stopping:
        yield Reason("the fleet is stopping", blocks=True)
        return
    yield from (Reason(fault, blocks=True) for fault in broker_faults(roll))
    if not roll.shards:
        where = f", and there is none in {roll.shardless}: is it the fleet's registry directory?"
        yield Reason(f"no worker holds a shard{where if roll.shardless else ''}", blocks=True)
    elif roll.missing_workers:
        yield Reason(f"{roll.missing_workers} of {roll.expected_workers} workers are not there", blocks=True)
    for worker in roll.workers:
        if not worker.up:
            yield Reason(f"worker {worker.worker} has not beaten for {worker.beat_age_seconds:.0f} s", blocks=True)
    yield from (Reason(fault, blocks=True) for fault in shard_faults(roll))
    yield from replica_faults(roll)


def _silences(roll: RollCall) -> Iterator[Reason]:
    """Yield the reasons why a process sends no status: it can't start, or its file is invalid. None of them blocks."""
    for name in roll.supervisor.refusing if roll.supervisor and roll.supervisor_up else ():
        yield Reason(f"{name} couldn't start as it is set up, and is tried again: its log says why", blocks=False)
    for file, why in roll.skipped.items():
        yield Reason(f"{file} is left out: {why}", blocks=False)


def is_connected(roll: RollCall) -> bool:
    """Return True if a worker holds a connection to the broker."""
    return any(shard.state not in UNCONNECTED for shard in roll.shards)


def _liveness_word(roll: RollCall, *, dead: bool) -> str:
    if dead:
        return "dead"
    return "stopping" if roll.stopping else "alive"


def _deaths(roll: RollCall) -> Iterator[str]:
    if roll.supervisor and not roll.supervisor_up:
        yield f"the supervisor has not beaten for {roll.at - roll.supervisor.beat_at:.0f} s"
    fleet_expected = bool(roll.workers or roll.supervisor)
    may_be_none = roll.starting or roll.stopping
    if fleet_expected and not may_be_none and not any(worker.up for worker in roll.workers):
        yield f"no worker has beaten for {BEAT_LIMIT_SECONDS:.0f} s"


def _dependency_reasons(roll: RollCall, findings: Findings) -> Iterator[Reason]:
    for finding in findings.dependencies:
        if fault := finding.fault(roll.at):
            yield Reason(f"{finding.name} is disconnected: {fault}", finding.required)
            continue
        for condition in finding.conditions:
            if not condition.met:
                yield Reason(
                    f"{condition.name} is {_word(condition, met=False)}: {condition.cause}", condition.required
                )
    for usage in findings.resources:
        if usage.high:
            yield Reason(f"{usage.resource} is {usage.ratio:.0%} used, over {usage.threshold:.0%}", blocks=False)


def _services(roll: RollCall, findings: Findings) -> dict[str, str]:
    others = {finding.name: _connection(up=not finding.fault(roll.at)) for finding in findings.dependencies}
    return {RABBITMQ: _connection(up=is_connected(roll)), **others}


def _checks(roll: RollCall, findings: Findings) -> dict[str, str]:
    conditions = {
        condition.name: _word(condition, met=condition.met and not finding.fault(roll.at))
        for finding in findings.dependencies
        for condition in finding.conditions
    }
    available = not any(fleet_reasons(roll))
    return {**conditions, "message_queue": "available" if available else "unavailable"}


def _dependencies(roll: RollCall, findings: Findings) -> dict[str, Document]:
    """Describe each service in detail; RabbitMQ's age is that of the worker with the oldest beat."""
    ages = [worker.beat_age_seconds for worker in roll.workers]
    rabbitmq = {
        "state": _connection(up=is_connected(roll)),
        "required": True,
        "age_seconds": _round(max(ages, default=None)),
    }
    if fault := next(broker_faults(roll), ""):
        rabbitmq["cause"] = fault
    return {RABBITMQ: rabbitmq} | {finding.name: _dependency(finding, roll.at) for finding in findings.dependencies}


def _dependency(finding: Finding, now: float) -> Document:
    fault = finding.fault(now)
    return {
        "state": _connection(up=not fault),
        "required": finding.required,
        "age_seconds": _round(finding.age_seconds(now)),
        "duration_seconds": _round(finding.duration_seconds),
        "breaker": finding.breaker,
        "cause": fault,
    }


def _shards(roll: RollCall) -> list[Document]:
    return [_shard(row) for row in roll.shards]


def _shard(row: ShardRow) -> Document:
    document = {
        "shard": row.shard,
        "worker": row.worker,
        "state": row.state,
        "cause": row.cause,
        "last_commit_age_seconds": _round(row.last_commit_age_seconds),
    }
    known = row.waiting_seconds is not None
    waiting = {"waiting_seconds": _round(row.waiting_seconds)} if known else {}
    return document | waiting | (_replica(row.replica) if row.replica else {})


def _replica(replica: ReplicaRow) -> Document:
    return {"owner": replica.owner, "replica": replica.state, "replica_lag_seconds": _round(replica.lag_seconds)}


def _resources(roll: RollCall, findings: Findings) -> dict[str, Document]:
    return {
        usage.resource: {
            "state": "high" if usage.high else "ok",
            "ratio": _round(usage.ratio),
            "threshold": usage.threshold,
            "age_seconds": _round(max(0.0, roll.at - usage.read_at)),
        }
        for usage in findings.resources
    }


def _connection(*, up: bool) -> str:
    return "connected" if up else "disconnected"


def _word(condition: Condition, *, met: bool) -> str:
    return _WORDS[condition.name][met]


def _round(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 3)


def _timestamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
