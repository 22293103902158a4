"""The shards' logs as a test sees them: read from the broker, without a host."""

from __future__ import annotations

from contextlib import contextmanager
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from busmon.bus.log.shard_log import ShardLog
from busmon.replication.records import Entry, Probe, decode, make_probe
from tests.broker.topologies import topology_file
from tests.fleet.replicated import declare
from tests.patience import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LENGTH = "x-max-length-bytes = {} # 1 GiB of disk for each shard, on"
SEGMENTS = ("x-stream-max-segment-size-bytes = 67_108_864", "x-stream-max-segment-size-bytes = 500_000")


def declare_short(vhost: Any, directory: Path, length: str) -> Path:
    """Declare logs of this length, of short segments; return the topology file for the hosts."""
    path = topology_file(directory, (LENGTH.format("1_073_741_824"), LENGTH.format(length)), SEGMENTS)
    declare(vhost, "--topology", str(path))
    return path


@contextmanager
def reading(vhost: Any, shard: int) -> Iterator[ShardLog]:
    """Open a log for reading from its first entry on."""
    log = ShardLog(
        vhost.amqp_url, "test", exchange="telemetry.log", stream=f"telemetry.log.{shard}", routing_key=str(shard)
    )
    try:
        log.read_from("first")
        yield log
    finally:
        log.close()


def first_offset(vhost: Any, shard: int) -> int:
    """Return the offset of the log's first entry, once those before it were dropped."""
    with reading(vhost, shard) as log:
        return wait_until(lambda: log.take(1.0), "an entry")[0].offset


def entries_now(vhost: Any, shard: int) -> list[Entry]:
    """Return the entries that a log has by now."""
    nonce = token_hex(8)

    def is_connected() -> bool:
        log.take(0.1)
        return log.is_connected

    with reading(vhost, shard) as log:
        wait_until(is_connected, "the log's connection")
        log.append(make_probe(nonce))
        log.take(0.1)  # which sends it
    return entries_before(vhost, shard, lambda entry: isinstance(entry, Probe) and entry.nonce == nonce)


def entries_before(vhost: Any, shard: int, is_end: Callable[[Entry], bool]) -> list[Entry]:
    """Return the entries of a log before the first that ends them."""
    entries: list[Entry] = []
    with reading(vhost, shard) as log:
        while True:
            for read in wait_until(lambda: log.take(1.0), "an entry"):
                entry = decode(read.body)
                if is_end(entry):
                    return entries
                entries.append(entry)
