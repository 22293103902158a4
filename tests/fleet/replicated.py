"""Two hosts of a replicated fleet: `busmon up` twice on one virtual host, each with a directory of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from busmon import status
from busmon.cli import main
from tests.fleet.publishing import envelope
from tests.fleet.real_fleet import RealFleet
from tests.patience import wait_until
from tests.soak.processes import command

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pika

    from busmon.demo.broker import PrivateNode

SAMPLES: list[dict[str, Any]] = [
    {"name": "tasks_processed_total", "labels": {"agent": "analyzer", "status": "success"}, "value": 1},
    {"name": "queue_size", "labels": {"queue": "tasks"}, "value": 7},
]
SHARDS = 4
COUNTER = "tasks_processed_total"


class Host(RealFleet):
    """One host; it is up once each of its replicas has been read to the log's end."""

    @property
    def name(self) -> str:
        """The host's name."""
        return self.registry_dir.parent.name

    def is_consuming(self) -> bool:
        """Tell whether each replica follows its log."""
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        replicas = self.replicas()
        return len(replicas) == SHARDS and {each.state for each in replicas.values()} <= {"following", "owning"}

    def replicas(self) -> dict[int, status.ReplicaStatus]:
        """The host's replicas, by shard."""
        shards = [shard for worker in status.read(self.registry_dir).workers for shard in worker.shards]
        return {shard.shard: shard.replica for shard in shards if shard.replica is not None}

    def owned(self) -> set[int]:
        """The shards that the host owns."""
        return {shard for shard, replica in self.replicas().items() if replica.state == "owning"}

    def pids(self) -> list[int]:
        """The host's processes, the supervisor first."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to each process of the host."""
        for pid in self.pids():
            os.kill(pid, number)

    def kill(self) -> None:
        """Kill the host's processes at once."""
        self._kill_all()

    def destroy(self) -> None:
        """Kill the host's processes at once, and delete its directory."""
        self._kill_all()
        shutil.rmtree(self.registry_dir)

    def _kill_all(self) -> None:
        """Kill the host's processes, and wait for the last: none of them has the address any more."""
        pids = self.pids()
        self.signal_all(signal.SIGKILL)
        self.process.wait()
        wait_until(lambda: not any(map(command, pids)), "the host's processes to end")


def declare(vhost: Any, *options: str) -> None:
    """Declare the topology with the shards' logs."""
    arguments = ["--amqp-url", vhost.amqp_url, "--management-url", vhost.management_url, "--replication", "stream"]
    assert main(["topology", "declare", *arguments, *options]) == 0


@contextmanager
def hosts(vhost: Any, directory: Path, *names: str, **environment: str) -> Iterator[list[Host]]:
    """Run replicated hosts of these names, after a declaration of the logs."""
    with ExitStack() as stack:
        yield [stack.enter_context(make_host(vhost, directory / name, **environment)) for name in names]


def make_host(vhost: Any, directory: Path, **environment: str) -> Host:
    """Return a host that isn't started."""
    directory.mkdir(exist_ok=True)
    return Host(directory, vhost.amqp_url, python=None, **{**settings_of(directory.name), **environment})


def settings_of(name: str) -> dict[str, str]:
    """The settings of a host of this name."""
    return {"BUSMON_REPLICATION": "stream", "BUSMON_HOST_NAME": name}


def envelopes(sequence: int, sources: int = 20) -> list[tuple[bytes, pika.BasicProperties]]:
    """One envelope of each source."""
    return [envelope(f"source-{number}", sequence, SAMPLES) for number in range(sources)]


def digests(host: Host) -> dict[int, tuple[int, str]]:
    """The last record of each replica: its number, and the digest of all records up to it."""
    return {shard: (replica.number, replica.digest) for shard, replica in host.replicas().items()}


def lose_connections(node: PrivateNode, vhost: Any, host: Host, kind: str) -> int:
    """Have the broker close a host's connections whose name begins so; return their number."""
    closed = 0
    for connection in json.loads(node.management("GET", f"/api/vhosts/{vhost.name}/connections")):
        name = connection.get("client_properties", {}).get("connection_name", "")
        if name.startswith(kind) and f" on {host.registry_dir.parent.name}" in name:
            node.management("DELETE", f"/api/connections/{quote(connection['name'])}")
            closed += 1
    return closed


def wait_for_equal(first: Host, second: Host) -> None:
    """Wait until both hosts have read the same records of each shard."""
    wait_until(lambda: digests(first) == digests(second), "equal replicas")
