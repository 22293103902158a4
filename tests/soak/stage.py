"""The stage of a soak: a broker, a fleet and publishers, in one directory; none of their processes outlives the block.

Main thread.
"""

import socket
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
from tests.soak.processes import Fleet, Process
from tests.soak.watch import fetch

RAW_PUBLISHERS = {"raw-0": "sequence", "raw-1": "sequence", "raw-2": "token"}
SDK_PUBLISHERS = ("sdk-0", "sdk-1")
HEARTBEAT_SECONDS = 3
ELECTION_SECONDS = 2.0
"""A quorum queue of RabbitMQ 3.10 can stay without a leader, if the broker is killed just after its declaration."""
START_SECONDS = 60.0
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
    """Everything that runs, and where.

    Attributes:
        address: the exporter's, the same over its restarts.
    """

    directory: Path
    node: PrivateNode
    address: str
    fleet: Fleet
    publishers: Sequence[Process]

    @property
    def url(self) -> str:
        """Where to scrape."""
        return f"http://{self.address}/metrics"

    @property
    def records(self) -> list[Path]:
        """The publishers' records."""
        return [_record(self.directory, name) for name in (*RAW_PUBLISHERS, *SDK_PUBLISHERS)]

    def await_exporter(self) -> None:
        """Wait for a scrape, the first or the first after the last fault.

        Raises:
            TimeoutError: there is none for a minute.
        """
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                fetch(self.url)
            except OSError as error:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no scrape ({error}); see {self.fleet.log}") from error
                time.sleep(0.1)
            else:
                return


@contextmanager
def stage(directory: Path, seed: int, environment: Mapping[str, str]) -> Iterator[Stage]:
    """Start everything, on what an earlier stage left in the directory, and wait for the exporter.

    Args:
        directory: of the run.
        seed: of the raw publishers.
        environment: settings of the fleet and the publishers in addition to the stage's own.
    """
    for log in directory.glob("*.log"):
        log.unlink()
    with parent.lifeline() as lifeline, _node(directory / "broker") as node:
        amqp_url = f"{node.amqp_url}?heartbeat={HEARTBEAT_SECONDS}"
        declare(topology.load(None, "telemetry"), amqp_url, None, {})
        time.sleep(ELECTION_SECONDS)
        address = _free_address()
        given = {
            "BUSMON_AMQP_URL": amqp_url,
            "BUSMON_LISTEN": address,
            "BUSMON_REGISTRY_DIR": str(directory / "registry"),
            "BUSMON_SPOOL_DIR": str(directory / "spool"),
            **ENVIRONMENT,
            **environment,
        }
        fleet = Fleet(directory, lifeline, given)
        publishers = [*_publishers(directory, lifeline, given, amqp_url, seed)]
        made = Stage(directory, node, address, fleet, publishers)
        with _running([fleet, *publishers]):
            made.await_exporter()
            yield made


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


def _free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"
