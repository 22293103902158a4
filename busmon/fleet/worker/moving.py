"""The moves of a shard between the files of one host and its log, each while no fleet runs.

Into the log: the state of the files becomes the first record of a log that has counted nothing yet. From the log: a
replica is read to the log's end, and stays as files. One thread.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory

from busmon.bus.connect.connection import translating
from busmon.bus.connect.session import Session
from busmon.bus.log.shard_log import ShardLog
from busmon.bus.topology import logs
from busmon.bus.topology.topology import Topology
from busmon.catalogue import Catalogue
from busmon.errors import RegistryError, UncountedError
from busmon.fleet.worker.owned_log import OwnedLog
from busmon.fleet.worker.replication import TURN_SECONDS
from busmon.registry.admission.families import Families
from busmon.registry.shard.replica import mark_path
from busmon.registry.shard.replicated_shard import ReplicatedShard
from busmon.registry.shard.shard import Shard
from busmon.settings import Settings

ANSWER_SECONDS = 60.0
"""How long a log may take to give back what was appended to it, or a replica to read the next entries."""

Say = Callable[[str], object]


def move_into_logs(settings: Settings, topology: Topology) -> list[str]:
    """Make the state of each shard's files the state of its log.

    Args:
        settings: names the registry directory, the broker and this host.
        topology: with the logs.

    Returns:
        A line for each shard. Nothing is said before the end: a reader that leaves must not stop it halfway.

    Raises:
        RegistryError: a shard's files are owned or damaged, or a log has counted something already.
        TopologyError: a log is missing.
        BusError: a log can't be reached.
    """
    _require_logs(settings, topology)
    families = Families(settings.registry_dir, Catalogue.load(settings.catalogue), settings.max_adopted_families)
    with ExitStack() as stack:
        opened, lines = [], []
        # Each log is looked at before the first is written to: a half of the shards in the logs would be of no use.
        for number in range(topology.shards):
            shard = stack.enter_context(closing(Shard.open(settings.registry_dir, number, families)))
            opened.append((number, shard, _open_empty(settings, topology, number, stack)))
        for number, shard, followed in opened:
            state = shard.dump()
            _write_whole(followed, topology.log_stream(number), state)
            lines.append(f"shard {number}: its state is in {topology.log_stream(number)!r}, {len(state):,} bytes")
        return lines


def _open_empty(settings: Settings, topology: Topology, number: int, stack: ExitStack) -> OwnedLog:
    """Follow a log that has counted nothing yet, in a directory that lasts as long as the stack.

    Raises:
        RegistryError: the log has an owner or records.
        BusError: the log can't be read.
    """
    directory = Path(stack.enter_context(TemporaryDirectory(prefix="busmon-")))
    families = Families(directory, Catalogue.load(settings.catalogue), settings.max_adopted_families)
    shard = stack.enter_context(closing(ReplicatedShard.open(directory, number, families)))
    followed = stack.enter_context(closing(_follow(settings, topology, number, shard)))
    _read_to_end(followed, topology.log_stream(number))
    if followed.status.epoch or followed.status.number:
        raise RegistryError(
            f"log {topology.log_stream(number)!r} has counted already, by host {followed.status.owner_host!r}: delete "
            "the logs and run `busmon topology declare` to begin new ones"
        )
    return followed


def _write_whole(followed: OwnedLog, name: str, state: bytes) -> None:
    """Claim the shard, and append its state as the first record.

    Raises:
        RegistryError: another host claimed the shard meanwhile, or the log was interrupted.
    """
    followed.claim(is_served=False)
    try:
        # No snapshot: that would contradict the empty state in which the log began.
        followed.append(b'{"whole":' + state + b"}", time.time())
    except UncountedError as error:
        raise RegistryError(f"log {name!r}: {error}: stop every fleet, delete the logs and begin again") from error


def move_from_logs(settings: Settings, topology: Topology, directory: Path, say: Say) -> None:
    """Read each shard's log to its end, and leave its files in a directory.

    Args:
        settings: names the broker, the catalogue and this host.
        topology: with the logs.
        directory: an empty one.
        say: called with a line for each shard.

    Raises:
        RegistryError: a log has neither its beginning nor a snapshot.
        TopologyError: a log is missing.
        BusError: a log can't be reached.
    """
    _require_logs(settings, topology)
    families = Families(directory, Catalogue.load(settings.catalogue), settings.max_adopted_families)
    for number in range(topology.shards):
        name = topology.log_stream(number)
        with (
            closing(ReplicatedShard.open(directory, number, families)) as shard,
            closing(_follow(settings, topology, number, shard)) as followed,
        ):
            _read_to_end(followed, name)
            say(f"shard {number}: {name!r} is in the files up to record {followed.status.number}")
        mark_path(directory, number).unlink()


def _follow(settings: Settings, topology: Topology, number: int, shard: ReplicatedShard) -> OwnedLog:
    log = ShardLog(
        settings.amqp_url,
        f"busmon registry, log {number}",
        exchange=topology.log_exchange,
        stream=topology.log_stream(number),
        routing_key=str(number),
    )
    kept_bytes = topology.log_kept_bytes
    return OwnedLog(shard, log, number=number, host=settings.host_name, kept_bytes=kept_bytes, progress=lambda: None)


def _read_to_end(followed: OwnedLog, name: str) -> None:
    """Read a log to its end.

    Raises:
        RegistryError: the log gives nothing for too long.
    """
    offset, deadline = followed.status.offset, time.monotonic() + ANSWER_SECONDS
    while not followed.is_current:
        followed.turn()
        if followed.status.offset != offset:
            offset, deadline = followed.status.offset, time.monotonic() + ANSWER_SECONDS
        if time.monotonic() > deadline:
            raise RegistryError(f"log {name!r}: {followed.status.cause}")
        time.sleep(TURN_SECONDS)


def _require_logs(settings: Settings, topology: Topology) -> None:
    with Session(settings.amqp_url, "busmon registry") as session, translating():
        logs.require(session, topology)
