"""Faults of the fleet, root cause first, in the words of a person: the broker's are said once, not shard by shard.

Pure. They are the first lines of the readiness document's `degraded`, and so of the page and `busmon top`.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from busmon.exporter.readiness.rollcall import (
    CONNECTING,
    CONSUMING,
    INTERRUPTED,
    READING,
    SILENT,
    STANDBY,
    RollCall,
    ShardRow,
)
from busmon.plurals import format_count

STALL_SECONDS = 15.0
"""How long envelopes may wait while none is committed: longer than a worker takes to replace a silent connection."""

_OF_THE_BROKER = {
    "unreachable": "RabbitMQ at {broker} is unreachable: {detail}",
    "refused": "RabbitMQ at {broker} refuses the connection: {detail}",
}
_LOST = "the connection to RabbitMQ at {broker} was lost: {name}: {detail}"


_REPLICA_FAULTS = {
    READING: "this host is still reading the {log}, and serves no metrics until then",
    INTERRUPTED: "this host can't read the {log}",
}


class Reason(NamedTuple):
    """A reason why the service is degraded; a reason that blocks makes it not ready."""

    text: str
    blocks: bool


def broker_faults(roll: RollCall) -> Iterator[str]:
    """Yield the faults that keep workers from the broker, shards of one fault together."""
    waiting: defaultdict[str, list[int]] = defaultdict(list)
    brokers = {worker.worker: worker.broker for worker in roll.workers}
    for shard in roll.shards:
        if shard.state == CONNECTING:
            waiting[_broker_fault(shard.cause, brokers[shard.worker])].append(shard.shard)
    connected = len(roll.shards) > sum(map(len, waiting.values()))
    for fault, shards in waiting.items():
        yield f"{fault}; {_name(shards)} {_verb(shards, 'waits', 'wait')}" if connected or len(waiting) > 1 else fault


def shard_faults(roll: RollCall) -> Iterator[str]:
    """Yield the other faults that keep shards from being consumed and committed, shards of one fault together."""
    shards_of: defaultdict[tuple[str, str, int], list[int]] = defaultdict(list)
    for shard in roll.shards:
        if shard.state not in {CONSUMING, STANDBY, CONNECTING}:
            shards_of[shard.state, shard.cause, shard.shard if shard.state == SILENT else 0].append(shard.shard)
    for (state, cause, _), shards in shards_of.items():
        yield f"{_name(shards)} {_verb(shards, 'is', 'are')} {state}{f': {cause}' if cause else ''}"
    yield from (_stall(shard) for shard in roll.shards if _is_stalled(shard))


def replica_faults(roll: RollCall) -> Iterator[Reason]:
    """Yield the faults of this host's replicas. A replica that was never whole blocks, since it would serve less."""
    shards_of: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for shard in roll.shards:
        if shard.replica is not None and shard.replica.state in _REPLICA_FAULTS and shard.state != SILENT:
            shards_of[shard.replica.state, shard.replica.cause].append(shard.shard)
    for (state, cause), shards in shards_of.items():
        said = _REPLICA_FAULTS[state].format(log="log" if len(shards) == 1 else "logs")
        yield Reason(f"{_name(shards)}: {said}{f': {cause}' if cause else ''}", blocks=state == READING)


def obstacles(roll: RollCall) -> Iterator[Reason]:
    """Yield the obstacles on the way of envelopes to their shards, as connected workers know them; each line once."""
    cut_off = {shard.worker for shard in roll.shards if shard.state == CONNECTING}
    said = (line for worker in roll.workers if worker.up and worker.worker not in cut_off for line in worker.obstacles)
    yield from (Reason(obstacle, blocks=False) for obstacle in dict.fromkeys(said))
    standby = [shard.shard for shard in roll.shards if shard.state == STANDBY]
    if standby and roll.rivals:
        yield Reason(f"{roll.rivals}; here {_name(standby)} {_verb(standby, 'stands', 'stand')} by", blocks=False)


def _broker_fault(cause: str, broker: str) -> str:
    name, _, detail = cause.partition(": ")
    if not name:
        return f"workers are connecting to RabbitMQ at {broker}"
    return _OF_THE_BROKER.get(name, _LOST).format(broker=broker, name=name, detail=detail)


def _is_stalled(shard: ShardRow) -> bool:
    return shard.state == CONSUMING and (shard.waiting_seconds or 0.0) > STALL_SECONDS


def _stall(shard: ShardRow) -> str:
    depth = shard.depth or 0
    waiting = f"{format_count(depth, 'envelope')} {'waits' if depth == 1 else 'wait'}"
    return f"shard {shard.shard} is stalled: {waiting}, and none was committed for {shard.waiting_seconds:.0f} s"


def _name(shards: Sequence[int]) -> str:
    *first, last = map(str, shards)
    return f"shards {', '.join(first)} and {last}" if first else f"shard {last}"


def _verb(several: Sequence[int], one: str, more: str) -> str:
    return one if len(several) == 1 else more
