"""Health: the liveness and readiness documents, made of a roll call.

Pure. RabbitMQ's state is what the workers do, not what a probe of ours would find: a broker that answers while nobody
consumes doesn't make the service ready. A dependency that isn't configured is left out of the documents.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from busmon.exporter.rollcall import BEAT_LIMIT_SECONDS, SILENT, RollCall

Document = dict[str, Any]

UNCONNECTED = frozenset({"connecting", SILENT})
"""The states of a shard whose worker holds no connection to the broker, or isn't known to."""


def liveness(roll: RollCall, version: str, started_at: float) -> Document:
    """The `/health` document: `status` is `alive` or `dead`.

    Dead means that what counts has stopped: the supervisor, or every worker. An exporter that runs alone, with no
    status of a supervisor or worker in its registry directory, is alive when it answers: it serves what the files hold.

    Args:
        roll: the roll call.
        version: busmon's.
        started_at: when the exporter began; `uptime` is the supervisor's where there is one, in whole seconds.
    """
    began = roll.supervisor.started_at if roll.supervisor else started_at
    causes = list(_deaths(roll))
    document: Document = {
        "status": "dead" if causes else "alive",
        "timestamp": _timestamp(roll.at),
        "version": version,
        "uptime": max(0, int(roll.at - began)),
    }
    return document | ({"causes": causes} if causes else {})


def readiness(roll: RollCall) -> Document:
    """The `/ready` document: `status` is `ready` or `not_ready`.

    Ready means that at least one shard is consuming; `degraded` then says what isn't, and what not-ready is for.
    """
    connected = any(shard.state not in UNCONNECTED for shard in roll.shards)
    consuming = any(shard.state == "consuming" for shard in roll.shards)
    return {
        "status": "ready" if consuming else "not_ready",
        "services": {"rabbitmq": "connected" if connected else "disconnected"},
        "checks": {"message_queue": "available" if consuming else "unavailable"},
        "degraded": list(_degradations(roll)),
    }


def _deaths(roll: RollCall) -> Iterator[str]:
    if roll.supervisor and not roll.supervisor_up:
        yield f"the supervisor has not beaten for {roll.at - roll.supervisor.beat_at:.0f} s"
    fleet_expected = bool(roll.workers or roll.supervisor)
    if fleet_expected and not roll.starting and not any(worker.up for worker in roll.workers):
        yield f"no worker has beaten for {BEAT_LIMIT_SECONDS:.0f} s"


def _degradations(roll: RollCall) -> Iterator[str]:
    if not roll.shards:
        yield "no worker holds a shard"
    for worker in roll.workers:
        if not worker.up:
            yield f"worker {worker.worker} has not beaten for {worker.beat_age_seconds:.0f} s"
    for shard in roll.shards:
        if shard.state != "consuming":
            yield f"shard {shard.shard} is {shard.state}" + (f": {shard.cause}" if shard.cause else "")


def _timestamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
