"""Faults of the fleet, root cause first, in the words of a person: the broker's are said once, not shard by shard.

Pure. They are the first lines of the readiness document's `degraded`, and so of the page and `busmon top`.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from busmon.exporter.rollcall import CONNECTING, SILENT, RollCall, ShardRow
from busmon.plurals import counted

STALL_SECONDS = 15.0
"""How long envelopes may wait while none is committed: longer than a worker takes to replace a silent connection."""

_OF_THE_BROKER = {
    "unreachable": "RabbitMQ at {broker} is unreachable: {detail}",
    "refused": "RabbitMQ at {broker} refuses the connection: {detail}",
}
_LOST = "the connection to RabbitMQ at {broker} was lost: {name}: {detail}"


class Reason(NamedTuple):
    """Why the service isn't all that it should be; one that blocks makes it not ready."""

    text: str
    blocks: bool


def broker_faults(roll: RollCall) -> Iterator[str]:
    """Say why workers have no connection to the broker: once for all shards that say the same."""
    waiting: defaultdict[str, list[int]] = defaultdict(list)
    brokers = {worker.worker: worker.broker for worker in roll.workers}
    for shard in roll.shards:
        if shard.state == CONNECTING:
            waiting[_broker_fault(shard.cause, brokers[shard.worker])].append(shard.shard)
    connected = len(roll.shards) > sum(map(len, waiting.values()))
    for fault, shards in waiting.items():
        yield f"{fault}; {_named(shards)} {_verb(shards, 'waits', 'wait')}" if connected or len(waiting) > 1 else fault


def shard_faults(roll: RollCall) -> Iterator[str]:
    """Say what else keeps shards from being consumed and committed: once for all shards that say the same."""
    alike: defaultdict[tuple[str, str, int], list[int]] = defaultdict(list)
    for shard in roll.shards:
        if shard.state not in {"consuming", CONNECTING}:
            alike[shard.state, shard.cause, shard.shard if shard.state == SILENT else 0].append(shard.shard)
    for (state, cause, _), shards in alike.items():
        yield f"{_named(shards)} {_verb(shards, 'is', 'are')} {state}{f': {cause}' if cause else ''}"
    yield from (_stall(shard) for shard in roll.shards if _is_stalled(shard))


def obstacles(roll: RollCall) -> Iterator[Reason]:
    """Say what keeps envelopes from reaching their shards, by what connected workers know; each line once."""
    cut_off = {shard.worker for shard in roll.shards if shard.state == CONNECTING}
    said = (line for worker in roll.workers if worker.up and worker.worker not in cut_off for line in worker.obstacles)
    yield from (Reason(obstacle, blocks=False) for obstacle in dict.fromkeys(said))


def _broker_fault(cause: str, broker: str) -> str:
    name, _, detail = cause.partition(": ")
    if not name:
        return f"workers are connecting to RabbitMQ at {broker}"
    return _OF_THE_BROKER.get(name, _LOST).format(broker=broker, name=name, detail=detail)


def _is_stalled(shard: ShardRow) -> bool:
    return shard.state == "consuming" and (shard.waiting_seconds or 0.0) > STALL_SECONDS


def _stall(shard: ShardRow) -> str:
    depth = shard.depth or 0
    waiting = f"{counted(depth, 'envelope')} {'waits' if depth == 1 else 'wait'}"
    return f"shard {shard.shard} is stalled: {waiting}, and none was committed for {shard.waiting_seconds:.0f} s"


def _named(shards: Sequence[int]) -> str:
    *first, last = map(str, shards)
    return f"shards {', '.join(first)} and {last}" if first else f"shard {last}"


def _verb(several: Sequence[int], one: str, more: str) -> str:
    return one if len(several) == 1 else more
