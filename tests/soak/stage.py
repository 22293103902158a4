"""The stage of a soak: a broker, hosts and publishers, in one directory; none of their processes outlives the block.

Main thread.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from busmon.bus.topology import topology
from busmon.bus.topology.declare import declare
from busmon.demo.broker import PrivateNode
from busmon.demo.rabbitmq import Address
from busmon.fleet.supervisor import parent
from tests.soak.host import Host
from tests.soak.processes import Process

RAW_PUBLISHERS = {"raw-0": "sequence", "raw-1": "sequence", "raw-2": "token"}
SDK_PUBLISHERS = ("sdk-0", "sdk-1")
SHARDS = 4
HEARTBEAT_SECONDS = 3
ELECTION_SECONDS = 2.0
"""A quorum queue of RabbitMQ 3.10 can stay without a leader, if the broker is killed just after its declaration."""
ENVIRONMENT = {
    "BUSMON_WORKERS": "2",
    "BUSMON_FLUSH_INTERVAL_SECONDS": "0.02",
    "BUSMON_BATCH_SIZE": "50",
    "BUSMON_BEAT_TIMEOUT_SECONDS": "20",
    "BUSMON_PUBLISH_INTERVAL_SECONDS": "0.05",
    "BUSMON_LOG_FORMAT": "json",
}
"""Small batches, so that many kills fall into a commit."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that runs, and where."""

    directory: Path
    node: PrivateNode
    hosts: Sequence[Host]
    publishers: Sequence[Process]

    @property
    def records(self) -> list[Path]:
        """The publishers' records."""
        return [_record(self.directory, name) for name in (*RAW_PUBLISHERS, *SDK_PUBLISHERS)]


@contextmanager
def stage(directory: Path, seed: int, hosts: int, environment: Mapping[str, str]) -> Iterator[Stage]:
    """Start everything, on what an earlier stage left in the directory, and wait for the exporters.

    Args:
        directory: of the run.
        seed: of the raw publishers.
        hosts: their number; several hosts have a replica of each shard.
        environment: settings of the hosts and the publishers in addition to the stage's own.
    """
    for log in (*directory.glob("*.log"), *directory.glob("host-*/*.log")):
        log.unlink()
    replication = "stream" if hosts > 1 else "off"
    with parent.lifeline() as lifeline, _node(directory / "broker") as node:
        amqp_url = f"{node.amqp_url}?heartbeat={HEARTBEAT_SECONDS}"
        declare(topology.load(None, "telemetry", replication), amqp_url, None, {})
        time.sleep(ELECTION_SECONDS)
        given = {
            "BUSMON_AMQP_URL": amqp_url,
            "BUSMON_REPLICATION": replication,
            "BUSMON_SPOOL_DIR": str(directory / "spool"),
            **ENVIRONMENT,
            **environment,
        }
        made = [Host(directory / f"host-{number}", lifeline, given) for number in range(hosts)]
        publishers = [*_publishers(directory, lifeline, given, amqp_url, seed)]
        with _running([*(host.fleet for host in made), *publishers]):
            for host in made:
                host.fetch()
            yield Stage(directory, node, made, publishers)


def _node(directory: Path) -> PrivateNode:
    """Return a node, which has the queues of the node that an earlier stage ran in the directory."""
    node = PrivateNode(directory)
    if (directory / "address.json").exists():
        node._address = Address.read(directory)
    return node


def _publishers(
    directory: Path, lifeline: int, environment: Mapping[str, str], amqp_url: str, seed: int
) -> Iterator[Process]:
    for name, ids in RAW_PUBLISHERS.items():
        arguments = (name, str(seed), str(_record(directory, name)), amqp_url, ids)
        yield Process("tests.soak.raw_publisher", arguments, directory, lifeline, environment)
    for name in SDK_PUBLISHERS:
        given = (name, str(_record(directory, name)), amqp_url)
        yield Process("tests.soak.sdk_publisher", given, directory, lifeline, environment)


def _record(directory: Path, publisher: str) -> Path:
    return directory / f"{publisher}.record"


@contextmanager
def _running(processes: Sequence[Process]) -> Iterator[None]:
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            if process.status is None:
                process.kill()
